package daemon

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/peald/peald/internal/listen"
)

const (
	// callGrace is how long calls to the control plane get to finish. They take
	// milliseconds, except for health watches, which would never end.
	callGrace = 2 * time.Second

	// The last tenth of drain.timeout is reserved for cutting off whatever hasn't
	// finished by then. The last fifth, which includes that tenth, is reserved for
	// everything that happens after the last stream is closed.
	cutShare    = 10
	spreadShare = 5
)

// shutDown logs the cause and shuts down all parts. It first closes the streams, one
// after another. In the meantime, the control plane still publishes to open streams and
// reports the progress. shutDown then shuts down the control plane.
func (p *parts) shutDown(cause string) {
	start := time.Now()
	timeout := p.cfg.Drain.Timeout
	p.log.Info("shutting down", "cause", cause, "streams", p.streams.Open(), "timeout", timeout.String())
	ctx, cancel := context.WithTimeout(context.Background(), timeout-timeout/cutShare)
	defer cancel()

	p.draining.Store(true)
	if p.member == nil {
		p.control.SetServing(false)
	} else {
		p.member.leave(p.control)
	}
	handedOver := p.handOver(ctx)

	p.streams.Drain()
	if err := p.broker.Drain(ctx, timeout-timeout/spreadShare-time.Since(start)); err != nil {
		p.log.Warn("drain incomplete, closing the remaining streams", "streams", p.streams.Open(), "error", err)
	}
	p.control.EndCalls()
	p.closeStreams(ctx)

	ctx, cancel = context.WithTimeout(ctx, callGrace)
	defer cancel()

	var servers errgroup.Group
	servers.Go(func() error { return p.rest.Shutdown(ctx) })
	servers.Go(func() error { return p.shutDownGRPC(ctx) })
	servers.Go(handedOver.Wait)
	if err := servers.Wait(); err != nil {
		p.log.Warn("calls aborted at shutdown", "error", err)
	}
}

// closeStreams shuts down the server for browsers and, at the same time, closes the
// broker with any remaining streams.
func (p *parts) closeStreams(ctx context.Context) {
	var streams errgroup.Group
	streams.Go(func() error { return p.sse.Shutdown(ctx) })
	streams.Go(func() error {
		p.broker.Close()
		return nil
	})

	if err := streams.Wait(); err != nil {
		p.log.Warn("stream requests aborted at shutdown", "error", err)
	}
}

// handOver hands the listeners over to another daemon, if one is accepting connections
// on the same addresses. Clients of the control plane move to that daemon before the
// streams do. The returned group waits for calls that are in progress on the servers
// that were handed over. This daemon keeps its streams for now.
func (p *parts) handOver(ctx context.Context) *errgroup.Group {
	var handedOver errgroup.Group

	sse, grpc, rest := p.handOverSockets(ctx)
	if !sse && !grpc && !rest {
		return &handedOver
	}
	p.log.Info("another process is accepting connections", "sse", sse, "grpc", grpc, "rest", rest)
	p.handedREST.Store(rest)

	select {
	case <-time.After(listen.HandOverGrace):
	case <-ctx.Done():
	}

	if grpc {
		p.control.EndCalls()
		handedOver.Go(func() error { return p.shutDownGRPC(ctx) })
	}
	if sse {
		handedOver.Go(func() error { return p.sse.Shutdown(ctx) })
	}
	if rest {
		handedOver.Go(func() error { return p.rest.Shutdown(ctx) })
	}

	return &handedOver
}

// handOverSockets reports which sockets were handed over.
func (p *parts) handOverSockets(ctx context.Context) (sse, grpc, rest bool) {
	var all sync.WaitGroup
	all.Go(func() { sse = p.sockets.sse.HandOver(ctx) })
	all.Go(func() { grpc = p.sockets.grpc.HandOver(ctx) })
	all.Go(func() { rest = p.sockets.rest.HandOver(ctx) })
	all.Wait()

	return sse, grpc, rest
}

// shutDownGRPC waits for calls that are in progress, but cuts them off when ctx ends.
func (p *parts) shutDownGRPC(ctx context.Context) error {
	p.calls.CloseSilent()

	done := make(chan struct{})
	stopInTime := context.AfterFunc(ctx, func() {
		defer close(done)
		p.calls.CloseAll()
		p.grpc.Stop()
	})

	p.grpc.GracefulStop()
	if stopInTime() {
		return nil
	}
	<-done

	return ctx.Err()
}
