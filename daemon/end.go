package daemon

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// stopGrace is what calls of the control plane are given to finish. They
	// take milliseconds, but for watches of health, which would never end.
	stopGrace = 2 * time.Second

	// Of the drain's time, the last cutShare-th is kept for cutting what has
	// not ended by then, and the last spreadShare-th for all that comes behind
	// the last stream's turn.
	cutShare    = 10
	spreadShare = 5
)

// end ends all parts: the streams first, one after the other, while the control
// plane publishes for those that are left and tells how far that is; then the
// control plane. The cause is for the log.
func (p *parts) end(calls *connections, cause string) {
	start := time.Now()
	timeout := p.cfg.Drain.Timeout
	p.log.Info("ending", "cause", cause, "streams", p.streams.Open(), "timeout", timeout.String())
	ctx, cancel := context.WithTimeout(context.Background(), timeout-timeout/cutShare)
	defer cancel()

	p.ending.Store(true)
	if p.member == nil {
		p.control.SetServing(false)
	} else {
		p.member.leave(p.control)
	}
	calling := p.handOver(ctx, calls)
	p.streams.Drain()
	if err := p.broker.Drain(ctx, timeout-timeout/spreadShare-time.Since(start)); err != nil {
		p.log.Warn("streams were cut", "streams", p.streams.Open(), "reason", err)
	}
	p.control.EndCalls()
	var streams errgroup.Group
	streams.Go(func() error { return p.sse.end(ctx) })
	streams.Go(func() error { p.broker.Close(); return nil })
	if err := streams.Wait(); err != nil {
		p.log.Warn("requests for streams were cut", "reason", err)
	}

	ctx, cancel = context.WithTimeout(ctx, stopGrace)
	defer cancel()
	var servers errgroup.Group
	servers.Go(func() error { return p.rest.end(ctx) })
	servers.Go(func() error { return p.endGRPC(ctx, calls) })
	servers.Go(calling.Wait)
	if err := servers.Wait(); err != nil {
		p.log.Warn("calls were cut", "reason", err)
	}
}

// handOver leaves the listeners to another daemon, where there is one that
// accepts on them too. Callers of the control plane then go over to it first,
// since it is there that streams go: calls of a server that has been left are
// waited for by what is returned. The daemon goes on with its streams.
func (p *parts) handOver(ctx context.Context, calls *connections) *errgroup.Group {
	var calling errgroup.Group
	doors := []net.Listener{p.bound.browsers, p.bound.grpc, p.bound.rest}
	var left [3]bool
	var leaving sync.WaitGroup
	for i, listener := range doors {
		if d, ok := listener.(*door); ok {
			leaving.Go(func() { left[i] = d.leave(ctx) })
		}
	}
	leaving.Wait()
	browsers, grpc, rest := left[0], left[1], left[2]
	if !browsers && !grpc && !rest {
		return &calling
	}
	p.log.Info("another daemon accepts", "browsers", browsers, "grpc", grpc, "rest", rest)
	p.restLeft.Store(rest)
	select {
	case <-time.After(handshake):
	case <-ctx.Done():
	}
	if grpc {
		p.control.EndCalls()
		calling.Go(func() error { return p.endGRPC(ctx, calls) })
	}
	if browsers {
		calling.Go(func() error { return p.sse.end(ctx) })
	}
	if rest {
		calling.Go(func() error { return p.rest.end(ctx) })
	}
	return &calling
}

// untilLeft asks callers to connect anew, once another daemon is there for them:
// a connection that is closed on one who is about to use it again looks like a
// failure.
func (p *parts) untilLeft(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.restLeft.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// endGRPC waits for the calls that are being served, or cuts them when ctx
// ends.
func (p *parts) endGRPC(ctx context.Context, calls *connections) error {
	calls.closeSilent()
	done := make(chan struct{})
	inTime := context.AfterFunc(ctx, func() {
		defer close(done)
		calls.closeAll()
		p.grpc.Stop()
	})
	p.grpc.GracefulStop()
	if inTime() {
		return nil
	}
	<-done
	return ctx.Err()
}
