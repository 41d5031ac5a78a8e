package daemon

import (
	"context"
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
// control plane.
func (p *parts) end(calls *connections) {
	start := time.Now()
	timeout := p.cfg.Drain.Timeout
	p.log.Info("ending", "streams", p.streams.Open(), "timeout", timeout.String())
	ctx, cancel := context.WithTimeout(context.Background(), timeout-timeout/cutShare)
	defer cancel()

	if p.member == nil {
		p.control.SetServing(false)
	} else {
		p.member.leave(p.control)
	}
	p.streams.Drain()
	if err := p.broker.Drain(ctx, timeout-timeout/spreadShare); err != nil {
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
	if err := servers.Wait(); err != nil {
		p.log.Warn("calls were cut", "reason", err)
	}
	p.log.Info("ended", "took", time.Since(start).Round(time.Millisecond).String())
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
