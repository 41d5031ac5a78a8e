package presence

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
)

const (
	// firstRetryDelay and maxRetryDelay bound the delays between attempts to
	// watch a node, before jitter.
	firstRetryDelay = 250 * time.Millisecond
	maxRetryDelay   = 2 * time.Second
	// queuedPieces is the maximum number of pieces that a watch queues. Other versions
	// of the daemon send up to 32 before the first is acknowledged.
	queuedPieces = 64
)

// Receiver receives the responses to a watch. Its methods are called one at a
// time.
type Receiver = interface {
	// Receive is called with a node's next responses, in order.
	Receive(node string, responses [][]byte)
	// Restart is called when a node's responses have been lost and the node is about to
	// start over.
	Restart(node string)
	// End is called when a node will send no more responses.
	End(node string)
}

// Watch runs a call that keeps responding. The call runs on all other nodes, including
// those that join later, until ctx is done. It calls started once, with the names of
// the nodes that are reachable at the start.
func (d *Directory) Watch(ctx context.Context, method string, request []byte, receiver Receiver, started func(nodes []string)) {
	var (
		running sync.WaitGroup
		mu      sync.Mutex // held while receiver is called
		stops   = make(map[uint64]func())
	)
	defer running.Wait()
	for first := true; ; first = false {
		reachable, _, change := d.remoteNodes()
		if first {
			names := make([]string, 0, len(reachable))
			for _, name := range reachable {
				names = append(names, name)
			}
			started(names)
		}

		// A restarted node has a new incarnation. The receiver must see the end of the
		// old one first.
		for incarnation, stop := range stops {
			if _, ok := reachable[incarnation]; !ok {
				stop()
				delete(stops, incarnation)
			}
		}
		for incarnation, name := range reachable {
			if stops[incarnation] != nil {
				continue
			}
			ctx, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			stops[incarnation] = func() { cancel(); <-done }
			w := nodeWatch{
				directory: d, mu: &mu, receiver: receiver,
				method: method, request: request, node: name, incarnation: incarnation,
			}
			running.Go(func() {
				defer close(done)
				w.run(ctx)
			})
		}

		select {
		case <-ctx.Done():
			for _, stop := range stops {
				stop()
			}
			return
		case <-change:
		}
	}
}

// nodeWatch is the part of a watch that covers one node.
type nodeWatch struct {
	directory   *Directory
	mu          *sync.Mutex
	receiver    Receiver
	method      string
	request     []byte
	node        string
	incarnation uint64
	received    bool // responses have arrived since the last start
}

// run watches the node until ctx is done.
func (w *nodeWatch) run(ctx context.Context) {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = firstRetryDelay, maxRetryDelay
	for ctx.Err() == nil {
		err := w.attempt(ctx)
		if ctx.Err() != nil {
			break
		}
		w.directory.log.Debug("watch of a node interrupted", "node", w.node, "method", w.method, "error", err)
		if w.received {
			w.mu.Lock()
			w.receiver.Restart(w.node)
			w.mu.Unlock()
			w.received = false
			delays.Reset()
		}
		select {
		case <-ctx.Done():
		case <-time.After(delays.NextBackOff()):
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.receiver.End(w.node)
}

// attempt starts watching the node anew, and continues until a piece is missing or ctx
// is done.
func (w *nodeWatch) attempt(ctx context.Context) error {
	d := w.directory
	inbox := d.cfg.Conn.NewInbox()
	pieces := make(chan *nats.Msg, queuedPieces)
	sub, err := d.cfg.Conn.ChanSubscribe(inbox, pieces)
	if err != nil {
		return fmt.Errorf("subscribing to responses: %w", err)
	}
	subject := d.subjectOf("follow", w.incarnation)
	defer func() {
		_ = sub.Unsubscribe()
		d.send(subject, &presencev1.Watch{Inbox: inbox, End: true})
	}()
	if !d.send(subject, &presencev1.Watch{Inbox: inbox, Method: w.method, Request: w.request}) {
		return errors.New("cannot send the request")
	}

	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	arrival, acked := time.Now(), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			if now.Sub(arrival) > watchTimeout {
				return fmt.Errorf("no message for %s", watchTimeout)
			}
			d.send(subject, &presencev1.Watch{Inbox: inbox, Acknowledged: acked}) // the last acknowledgement may have been lost
		case msg := <-pieces:
			piece := new(presencev1.Piece)
			if err := proto.Unmarshal(msg.Data, piece); err != nil {
				return fmt.Errorf("malformed piece: %w", err)
			}
			if piece.GetNumber() != acked+1 {
				return fmt.Errorf("piece %d follows piece %d", piece.GetNumber(), acked)
			}
			arrival, acked = time.Now(), piece.GetNumber()
			if len(piece.GetResponses()) > 0 {
				w.received = true
				w.mu.Lock()
				w.receiver.Receive(w.node, piece.GetResponses())
				w.mu.Unlock()
			}
			d.send(subject, &presencev1.Watch{Inbox: inbox, Acknowledged: acked})
			if piece.GetEnd() {
				return fmt.Errorf("ended by the node: %s", piece.GetError())
			}
		}
	}
}
