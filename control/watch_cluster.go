package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	// snapshotTimeout limits how long other nodes may take to send their snapshots.
	// Streams in a snapshot that arrives later are reported as opened.
	snapshotTimeout = 5 * time.Second
	// maxNodeUpdates is the maximum number of updates queued for the caller.
	maxNodeUpdates = 64
)

// watchCluster implements WatchConnections for the streams on all nodes.
func (s *Service) watchCluster(ctx context.Context, req *pealv1.WatchConnectionsRequest, send func(*pealv1.WatchConnectionsResponse) error) error {
	method, request, err := watchOfNodes(req)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)

	var running sync.WaitGroup

	defer running.Wait()
	defer cancel()

	receiver := &watchReceiver{ctx: ctx, updates: make(chan nodeUpdate, maxNodeUpdates)}
	name := s.cluster.Name()
	localEnd := make(chan error, 1)

	running.Go(func() {
		localEnd <- s.watchLocal(ctx, req, func(resp *pealv1.WatchConnectionsResponse) error {
			return receiver.put(nodeUpdate{node: name, responses: []*pealv1.WatchConnectionsResponse{resp}})
		})
	})
	running.Go(func() {
		s.cluster.Watch(ctx, method, request, receiver,
			func(nodes []string) { _ = receiver.put(nodeUpdate{started: append(nodes, name)}) })
	})

	timeout := time.NewTimer(snapshotTimeout)
	defer timeout.Stop()

	merged := newMergedWatch(send)

	for {
		var err error

		select {
		case err := <-localEnd:
			return err
		case <-s.draining:
			return broker.ErrClosed
		case u := <-receiver.updates:
			err = merged.apply(u)
		case <-timeout.C:
			err = merged.sendSnapshot()
		}

		if err != nil {
			return err
		}
	}
}

// watchOfNodes returns the method and the request of a watch of the other nodes.
func watchOfNodes(req *pealv1.WatchConnectionsRequest) (method string, request []byte, _ error) {
	if req.GetTopic() == "" {
		return pealv1.ControlService_WatchConnections_FullMethodName, nil, nil
	}

	request, err := proto.Marshal(req)
	if err != nil {
		return "", nil, fmt.Errorf("encoding a request: %w", err)
	}

	return watchTopicMethod, request, nil
}

// watchReceiver is a Receiver that passes the updates from nodes to the call's
// goroutine.
type watchReceiver struct {
	ctx     context.Context //nolint:containedctx // The receiver belongs to one call.
	updates chan nodeUpdate
}

// put queues an update. It returns an error if the call ends first.
func (r *watchReceiver) put(u nodeUpdate) error {
	select {
	case r.updates <- u:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// Receive implements Receiver.
func (r *watchReceiver) Receive(node string, responses [][]byte) {
	u := nodeUpdate{node: node}

	for _, response := range responses {
		resp := new(pealv1.WatchConnectionsResponse)
		if proto.Unmarshal(response, resp) == nil {
			u.responses = append(u.responses, resp)
		}
	}

	_ = r.put(u) // fails only if the call has ended
}

// Restart implements Receiver.
func (r *watchReceiver) Restart(node string) { _ = r.put(nodeUpdate{node: node, restarted: true}) }

// End implements Receiver.
func (r *watchReceiver) End(node string) { _ = r.put(nodeUpdate{node: node, ended: true}) }
