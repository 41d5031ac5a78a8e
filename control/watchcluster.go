package control

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	// reasonNodeLost and reasonUnknown are why streams of other daemons ended,
	// where these have not said why.
	reasonNodeLost = "node_lost"
	reasonUnknown  = "unknown"
	// presentFor is how long other daemons may take to say who is present. Who
	// is told later comes as streams that were opened.
	presentFor = 5 * time.Second
	// hearAhead is how many things may wait until the caller takes them.
	hearAhead = 64
)

// watchCluster tells of the streams of all daemons.
func (s *Service) watchCluster(ctx context.Context, send func(*pealv1.WatchConnectionsResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	w := newClusterWatch(send)
	heard := &watchHearing{ctx: ctx, tidings: make(chan tidings, hearAhead)}
	own := s.cluster.Name()
	ended := make(chan error, 1)
	running.Go(func() {
		ended <- s.watchOwn(ctx, func(told *pealv1.WatchConnectionsResponse) error {
			return heard.put(tidings{node: own, told: []*pealv1.WatchConnectionsResponse{told}})
		})
	})
	running.Go(func() {
		s.cluster.Watch(ctx, pealv1.ControlService_WatchConnections_FullMethodName, nil, heard,
			func(nodes []string) { _ = heard.put(tidings{begun: append(nodes, own)}) })
	})
	late := time.NewTimer(presentFor)
	defer late.Stop()
	for {
		var err error
		select {
		case err := <-ended:
			return err
		case <-s.draining:
			return broker.ErrClosed
		case t := <-heard.tidings:
			err = w.take(t)
		case <-late.C:
			err = w.complete()
		}
		if err != nil {
			return err
		}
	}
}

// tidings are what a daemon told, or became of it.
type tidings struct {
	node        string
	told        []*pealv1.WatchConnectionsResponse
	again, gone bool
	begun       []string // the daemons that were there at the beginning
}

// watchHearing hands on what it hears to the call's goroutine. It is a Receiver.
type watchHearing struct {
	ctx     context.Context //nolint:containedctx // the call's, which a Receiver is part of
	tidings chan tidings
}

func (h *watchHearing) put(t tidings) error {
	select {
	case h.tidings <- t:
		return nil
	case <-h.ctx.Done():
		return h.ctx.Err()
	}
}

func (h *watchHearing) Receive(node string, responses [][]byte) {
	t := tidings{node: node}
	for _, response := range responses {
		told := new(pealv1.WatchConnectionsResponse)
		if proto.Unmarshal(response, told) == nil {
			t.told = append(t.told, told)
		}
	}
	_ = h.put(t) // or the call has ended
}

func (h *watchHearing) Restart(node string) { _ = h.put(tidings{node: node, again: true}) }

func (h *watchHearing) End(node string) { _ = h.put(tidings{node: node, gone: true}) }

// clusterWatch merges what daemons tell: the counts that it tells are of the
// streams on all of them. It belongs to the call's goroutine.
type clusterWatch struct {
	send    func(*pealv1.WatchConnectionsResponse) error
	nodes   map[string]*watchedNode
	awaited map[string]bool // who has yet to say who is present; nil before it is known who is there
	told    bool            // who is present has been told
}

// watchedNode is what a daemon has told. Anonymous streams are those of the
// user "".
type watchedNode struct {
	streams map[string]int32                  // by user
	since   map[string]*timestamppb.Timestamp // until who is present has been told
	fresh   map[string]int32                  // while it says who is present
}

func newClusterWatch(send func(*pealv1.WatchConnectionsResponse) error) *clusterWatch {
	return &clusterWatch{send: send, nodes: make(map[string]*watchedNode)}
}

// take takes in what a daemon told.
func (w *clusterWatch) take(t tidings) error {
	switch {
	case t.begun != nil:
		w.awaited = make(map[string]bool)
		for _, name := range t.begun {
			w.awaited[name] = w.nodes[name] == nil || w.nodes[name].fresh != nil
		}
		return w.completeIfAll()
	case t.gone:
		return w.lose(t.node)
	}
	n := w.nodes[t.node]
	if n == nil {
		n = &watchedNode{
			streams: make(map[string]int32), since: make(map[string]*timestamppb.Timestamp), fresh: make(map[string]int32),
		}
		w.nodes[t.node] = n
	}
	if t.again {
		n.fresh = make(map[string]int32)
	}
	for _, told := range t.told {
		if err := w.hear(t.node, n, told); err != nil {
			return err
		}
	}
	return nil
}

func (w *clusterWatch) hear(name string, n *watchedNode, told *pealv1.WatchConnectionsResponse) error {
	switch e := told.GetEvent().(type) {
	case *pealv1.WatchConnectionsResponse_Present:
		n.fresh[e.Present.GetUserId()] = e.Present.GetConnections()
		w.since(n, e.Present.GetUserId(), e.Present.GetConnectedSince())
	case *pealv1.WatchConnectionsResponse_SnapshotComplete:
		n.fresh[""] = e.SnapshotComplete.GetAnonymousConnections()
		fresh := n.fresh
		n.fresh = nil
		if w.told {
			return w.become(n, fresh, reasonUnknown)
		}
		n.streams = fresh
		if w.awaited != nil {
			delete(w.awaited, name)
		}
		return w.completeIfAll()
	case *pealv1.WatchConnectionsResponse_Opened:
		if n.streams[e.Opened.GetUserId()] == 0 {
			w.since(n, e.Opened.GetUserId(), e.Opened.GetTime())
		}
		n.set(e.Opened.GetUserId(), e.Opened.GetConnections())
		e.Opened.Connections = w.sum(e.Opened.GetUserId())
		return w.change(told)
	case *pealv1.WatchConnectionsResponse_Ended:
		n.set(e.Ended.GetUserId(), e.Ended.GetConnections())
		e.Ended.Connections = w.sum(e.Ended.GetUserId())
		return w.change(told)
	}
	return nil
}

// since notes since when a user has been there, for as long as that is to be
// told.
func (w *clusterWatch) since(n *watchedNode, user string, at *timestamppb.Timestamp) {
	if !w.told {
		n.since[user] = at
	}
}

func (n *watchedNode) set(user string, streams int32) {
	if streams > 0 {
		n.streams[user] = streams
	} else {
		delete(n.streams, user)
	}
}

func (w *clusterWatch) sum(user string) (streams int32) {
	for _, n := range w.nodes {
		streams += n.streams[user]
	}
	return streams
}

// change tells of a change, which before it was told who is present is part of
// that.
func (w *clusterWatch) change(told *pealv1.WatchConnectionsResponse) error {
	if !w.told {
		return nil
	}
	return w.send(told)
}

// completeIfAll tells who is present, once all who were there have said so.
func (w *clusterWatch) completeIfAll() error {
	if w.awaited == nil {
		return nil
	}
	for _, awaited := range w.awaited {
		if awaited {
			return nil
		}
	}
	return w.complete()
}

// complete tells who is present by what is known now.
func (w *clusterWatch) complete() error {
	if w.told {
		return nil
	}
	w.told = true
	users := make(map[string]*pealv1.User)
	for _, n := range w.nodes {
		for id, streams := range n.streams {
			u := users[id]
			if u == nil {
				u = &pealv1.User{UserId: id, ConnectedSince: n.since[id]}
				users[id] = u
			}
			u.Connections += streams
			if n.since[id].AsTime().Before(u.GetConnectedSince().AsTime()) {
				u.ConnectedSince = n.since[id]
			}
		}
		n.since = nil
	}
	anonymous := users[""].GetConnections()
	delete(users, "")
	for _, id := range slices.Sorted(maps.Keys(users)) {
		if err := w.send(present(users[id])); err != nil {
			return err
		}
	}
	return w.send(snapshotComplete(anonymous))
}

// lose tells that the streams of a daemon are gone.
func (w *clusterWatch) lose(name string) error {
	delete(w.awaited, name)
	n := w.nodes[name]
	if n == nil {
		return w.completeIfAll()
	}
	if !w.told {
		delete(w.nodes, name)
		return w.completeIfAll()
	}
	err := w.become(n, nil, reasonNodeLost)
	delete(w.nodes, name)
	return err
}

// become tells of the changes that make a daemon's streams what they are now.
func (w *clusterWatch) become(n *watchedNode, now map[string]int32, reason string) error {
	at := timestamppb.Now()
	users := make(map[string]bool, len(n.streams)+len(now))
	for id := range n.streams {
		users[id] = true
	}
	for id := range now {
		users[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(users)) {
		for n.streams[id] != now[id] {
			var told *pealv1.WatchConnectionsResponse
			if n.streams[id] < now[id] {
				n.set(id, n.streams[id]+1)
				told = opened(id, w.sum(id), at)
			} else {
				n.set(id, n.streams[id]-1)
				told = endedFor(id, w.sum(id), at, reason)
			}
			if err := w.send(told); err != nil {
				return err
			}
		}
	}
	return nil
}
