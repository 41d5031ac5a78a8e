package presence

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
)

const (
	// pieceBytes is the size, in bytes, at which a piece is sent immediately. A piece
	// exceeds that size by at most one response.
	pieceBytes = 256 << 10
	// gatherFor is how long a smaller piece waits for more responses.
	gatherFor = 20 * time.Millisecond
	// queuedResponses is the maximum number of responses that wait for the next piece.
	queuedResponses = 256
	// heartbeatInterval is the time between messages, in either direction, when there
	// are no responses.
	heartbeatInterval = time.Second
	// watchTimeout limits how long the other side may be silent.
	watchTimeout = 5 * time.Second
)

// errWatcherGone is the cause of a call's cancellation if its watcher has ended the
// watch or is silent.
var errWatcherGone = errors.New("the watcher is gone")

// watcher is a watch of this node by another node.
type watcher struct {
	inbox  string
	cancel context.CancelCauseFunc
	acked  atomic.Uint64 // the last piece that the other node has acknowledged
	wake   chan struct{} // has a token after acked has been set
}

// handleWatch starts or ends a watch by another node, or records an acknowledgement
// from it.
func (r *responder) handleWatch(ctx context.Context, msg *nats.Msg, running *sync.WaitGroup) {
	request := new(presencev1.Watch)
	if err := proto.Unmarshal(msg.Data, request); err != nil {
		r.directory.log.Warn("malformed watch request", "error", err)
		return
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watchers[request.GetInbox()]
	switch {
	case w != nil && request.GetEnd():
		w.cancel(errWatcherGone)
	case w != nil:
		w.acked.Store(request.GetAcknowledged())
		select {
		case w.wake <- struct{}{}:
		default:
		}
	case request.GetMethod() != "":
		watchCtx, cancel := context.WithCancelCause(ctx)
		w = &watcher{inbox: request.GetInbox(), cancel: cancel, wake: make(chan struct{}, 1)}
		r.watchers[w.inbox] = w
		running.Go(func() {
			sent, err := r.serveWatch(watchCtx, w, request.GetMethod(), request.GetRequest())
			// If this node is shutting down, its last announcement ends the watch.
			if ctx.Err() == nil && !errors.Is(context.Cause(watchCtx), errWatcherGone) {
				r.sendEnd(w, sent, err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.watchers, w.inbox)
			cancel(nil)
		})
	}
}

// serveWatch runs a call and sends its responses to w. It returns the number of pieces
// sent and the error from the call.
func (r *responder) serveWatch(ctx context.Context, w *watcher, method string, request []byte) (sent uint64, err error) {
	responses := make(chan []byte, queuedResponses)
	var sending sync.WaitGroup
	sending.Go(func() {
		var err error
		if sent, err = r.sendPieces(ctx, w, responses); err != nil {
			w.cancel(err)
		}
	})
	err = r.handler.HandleWatch(ctx, method, request, func(response []byte) error {
		select {
		case responses <- response:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(responses)
	sending.Wait()
	return sent, err
}

// sendPieces sends responses to w until the channel is closed. It sends a piece only
// once the previous one has been acknowledged. It returns the number of pieces sent.
func (r *responder) sendPieces(ctx context.Context, w *watcher, responses <-chan []byte) (sent uint64, err error) {
	for {
		next, open := nextResponses(ctx, responses)
		if ctx.Err() != nil {
			return sent, context.Cause(ctx)
		}
		sent++
		r.directory.send(w.inbox, &presencev1.Piece{Number: sent, Responses: next})
		if !open {
			return sent, nil
		}
		if err := w.awaitAck(ctx, sent); err != nil {
			return sent, err
		}
	}
}

// nextResponses returns the responses for the next piece: those that arrive within
// gatherFor of the first. If none arrives within heartbeatInterval, it returns none. It
// also reports whether more may follow.
func nextResponses(ctx context.Context, responses <-chan []byte) (next [][]byte, open bool) {
	enough := time.NewTimer(heartbeatInterval)
	defer enough.Stop()
	for size := 0; size < pieceBytes; {
		select {
		case response, ok := <-responses:
			if !ok {
				return next, false
			}
			if next == nil {
				enough.Reset(gatherFor)
			}
			next = append(next, response)
			size += len(response)
		case <-enough.C:
			return next, true
		case <-ctx.Done():
			return nil, true
		}
	}
	return next, true
}

// awaitAck waits until the watcher has acknowledged a piece.
func (w *watcher) awaitAck(ctx context.Context, piece uint64) error {
	timeout := time.NewTimer(watchTimeout)
	defer timeout.Stop()
	for w.acked.Load() < piece {
		select {
		case <-w.wake:
		case <-timeout.C:
			return errWatcherGone
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// sendEnd notifies a watcher that the call has ended.
func (r *responder) sendEnd(w *watcher, sent uint64, reason error) {
	end := &presencev1.Piece{Number: sent + 1, End: true}
	if reason != nil {
		end.Error = reason.Error()
	}
	r.directory.send(w.inbox, end)
}
