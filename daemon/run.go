package daemon

import (
	"context"
	"log/slog"
	"time"
)

// Run runs a daemon until ctx ends or a call to the Drain RPC drains it. The daemon
// then accepts no more streams and closes the open ones over up to four fifths of
// cfg.Drain.Timeout. After that, calls to the control plane get 2 s to finish, and any
// that remain are cut off.
//
// Run returns once all of its goroutines have ended. It returns nil after a graceful
// shutdown, and otherwise an error that states why the daemon couldn't start or had to
// stop.
func Run(ctx context.Context, cfg Config, opts Options) error {
	cfg, trimmed := opts.Inherited.override(cfg).trimSecrets()
	if err := cfg.Validate(); err != nil {
		return err
	}
	if opts.Demo {
		if err := checkDemo(cfg); err != nil {
			return err
		}
	}

	if opts.LogLevel != nil {
		opts.LogLevel.Set(cfg.Log.Threshold())
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	descriptors, err := descriptorBudget(cfg.SSE.MaxConnections)
	if err != nil {
		return err
	}
	release, err := lockClusterDir(cfg.Cluster)
	if err != nil {
		return err
	}
	defer release()
	s, err := openSockets(ctx, cfg, opts.Inherited)
	if err != nil {
		return err
	}
	defer s.close()
	p, err := build(cfg, opts, s, descriptors, log)
	if err != nil {
		return err
	}
	defer p.close()

	log.Info("file descriptors", "limit", descriptors.Limit, "streams", descriptors.Streams)
	p.warn(func(string) bool { return true })
	p.warnOfTrimmedSecrets(trimmed, func(string) bool { return true })

	return p.run(ctx)
}

// run serves until ctx ends, a call drains the daemon, or a part fails. It then shuts
// down all parts.
func (p *parts) run(ctx context.Context) error {
	// The parts must outlive ctx, because they are shut down in order.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	g := newGroup()
	p.serve(running, g)
	p.announce(running, g)
	p.startSummaries(running, g)
	if p.opts.TuneMemory {
		g.start(running, "memory", func(ctx context.Context) error {
			tuneMemory(ctx, p.browsers.Accepted)
			return nil
		})
	}
	stopDemo := func() {}
	if p.opts.Demo {
		stopDemo = g.start(running, "demo", p.publishDemo)
	}

	stopSources := g.start(running, "sources", func(ctx context.Context) error {
		p.sources.Run(ctx)
		return nil
	})

	cause := p.awaitEnd(ctx, g)
	failure := g.err()
	if p.opts.Ending != nil {
		p.opts.Ending()
	}

	start := time.Now()
	stopDemo()
	stopSources() // so that another node continues
	p.shutDown(cause)
	stop()
	g.wait()
	p.log.Info("stopped", "took", time.Since(start).Round(time.Millisecond).String())

	return failure
}

// serve starts the servers and joins the cluster.
func (p *parts) serve(ctx context.Context, g *group) {
	g.start(ctx, "sse.addr", func(context.Context) error { return p.sse.Serve() })
	g.start(ctx, "grpc.addr", func(context.Context) error { return p.grpc.Serve(p.calls) })
	g.start(ctx, "rest.addr", func(context.Context) error { return p.rest.Serve() })
	g.start(ctx, "hooks", p.hooks.Run)

	if p.member == nil {
		p.control.SetServing(true)
		return
	}
	g.start(ctx, "cluster", func(ctx context.Context) error { return p.member.run(ctx, p.control) })
}

// announce reports, to the operator and to the calling program, that the listeners
// accept connections and, to the calling program, that the daemon is serving.
func (p *parts) announce(ctx context.Context, g *group) {
	addresses := p.sockets.addresses()
	p.log.Info("accepting", "sse", addresses.SSE, "grpc", addresses.GRPC, "rest", addresses.REST)

	if p.opts.Ready != nil {
		if err := p.opts.Ready(addresses); err != nil {
			g.fail(err)
		}
	}

	switch {
	case p.opts.Settled == nil:
	case p.member == nil:
		p.opts.Settled(true)
	default:
		g.start(ctx, "cluster", func(ctx context.Context) error {
			p.member.settle(ctx, p.opts.Settled)
			return nil
		})
	}
}

// startSummaries starts logging summaries of rejected and closed streams.
func (p *parts) startSummaries(ctx context.Context, g *group) {
	g.start(ctx, "summaries", func(ctx context.Context) error {
		newSummaries(p.log, p.occurrences).run(ctx)
		return nil
	})
}

// awaitEnd reloads settings until the daemon must shut down, and returns the
// cause.
func (p *parts) awaitEnd(ctx context.Context, g *group) (cause string) {
	for {
		select {
		case r := <-p.opts.Reload:
			p.reload(r)
		case <-ctx.Done():
			return context.Cause(ctx).Error()
		case <-p.drain:
			return "Drain was called"
		case <-g.failed:
			return g.err().Error()
		}
	}
}
