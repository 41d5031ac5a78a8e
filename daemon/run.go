package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Options are what the program around a daemon gives it. All may be left out.
type Options struct {
	// Logger gets what an operator should know; nothing where nil.
	Logger *slog.Logger

	// Version is the daemon's own, which it tells whoever asks.
	Version string

	// Demo has it serve a page at / of the SSE listener, and events for it.
	Demo bool

	// TuneMemory lets the daemon set how seldom the process collects garbage
	// while many connect, and give memory back afterwards. It is for a process
	// that is nothing but the daemon.
	TuneMemory bool

	// LogLevel, where there is one, is set to what log.level says, and followed
	// by Logger.
	LogLevel *slog.LevelVar

	// LostLines returns how many lines of the log have been lost so far. None
	// are where it is nil.
	LostLines func() int64

	// Reload gives what the settings are while the daemon runs; see
	// [Reload]. The daemon takes one at a time, until it ends.
	Reload <-chan Reload

	// Registry is where its metrics go, and what the REST listener shows at
	// /metrics; a new one where nil.
	Registry *prometheus.Registry

	// Tracer is where spans of control calls go; there are none where nil. It is
	// the caller's to shut down.
	Tracer trace.TracerProvider

	// Inherited are the sockets that the process was started with.
	Inherited Inherited

	// Ready is called once all listeners accept. Its error ends the daemon.
	Ready func(Addresses) error

	// Settled is called once, behind Ready: when the daemon serves, which one of
	// a cluster does when it has caught up with it, or has waited for that for
	// half a minute, since the first node of a cluster waits for the others.
	Settled func(serving bool)

	// Ending is called once the daemon begins to end, for whatever reason.
	Ending func()
}

// Run is a daemon from its start to its end. It ends when ctx does, or the
// control plane is told so: it takes no
// more streams, ends those that are open, spread over cfg.Drain.Timeout where
// they are many, then the calls of the control plane, cuts what lasts longer,
// and returns nil when none of its goroutines is left. An error is why it could
// not start or go on.
func Run(ctx context.Context, cfg Config, opts Options) error {
	cfg, trimmed := opts.Inherited.over(cfg).trimSecrets()
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
	descriptors, err := shareDescriptors(cfg.SSE.MaxConnections)
	if err != nil {
		return err
	}
	release, err := holdClusterDir(cfg.Cluster)
	if err != nil {
		return err
	}
	defer release()
	bound, err := listen(ctx, cfg, opts.Inherited)
	if err != nil {
		return err
	}
	defer bound.close()
	p, err := build(cfg, opts, bound, descriptors, log)
	if err != nil {
		return err
	}
	defer p.close()
	log.Info("file descriptors", "limit", descriptors.limit, "streams", descriptors.streams)
	p.warn(func(string) bool { return true })
	p.warnOfTrimmedSecrets(trimmed, func(string) bool { return true })
	return p.run(ctx, bound, opts)
}

// run serves until ctx ends or something fails, and then ends all parts.
func (p *parts) run(ctx context.Context, bound listeners, opts Options) error {
	healthy, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	var serving sync.WaitGroup
	serve := func(key string, serve func() error) {
		serving.Go(func() {
			if err := serve(); err != nil {
				fail(fmt.Errorf("%s: %w", key, err))
			}
		})
	}
	serve("sse.addr", func() error { return p.sse.serve(&p.proxies) })
	calls := newConnections(bound.grpc)
	serve("grpc.addr", func() error { return p.grpc.Serve(calls) })
	serve("rest.addr", func() error { return p.rest.serve(bound.rest) })

	participating, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	if p.member == nil {
		p.control.SetServing(true)
	} else {
		serve("cluster", func() error { return p.member.run(participating, p.control) })
	}
	addresses := bound.addresses()
	p.log.Info("accepting", "sse", addresses.SSE, "grpc", addresses.GRPC, "rest", addresses.REST)
	if opts.Ready != nil {
		if err := opts.Ready(addresses); err != nil {
			fail(err)
		}
	}
	if opts.Settled != nil {
		if p.member == nil {
			opts.Settled(true)
		} else {
			serving.Go(func() { p.member.settle(participating, opts.Settled) })
		}
	}
	tending, stopTending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTending()
	if p.tuneMemory {
		serving.Go(func() { tuneMemory(tending, p.slots.taken.Load) })
	}
	serving.Go(func() { newSummaries(p.log, p.occurrences).run(tending) })
	publishing, stopPublishing := context.WithCancel(ctx)
	defer stopPublishing()
	if p.demo {
		serve("demo", func() error { return p.publishDemo(publishing) })
	}
	cause := ""
	for cause == "" {
		select {
		case r := <-opts.Reload:
			p.reload(r)
		case <-ctx.Done():
			cause = context.Cause(ctx).Error()
		case <-p.told:
			cause = "Drain was called"
		case <-healthy.Done():
			cause = context.Cause(healthy).Error()
		}
	}
	failure := context.Cause(healthy)
	if opts.Ending != nil {
		opts.Ending()
	}
	stopPublishing()
	began := time.Now()
	p.end(calls, cause)
	leave()
	stopTending()
	serving.Wait()
	p.log.Info("ended", "took", time.Since(began).Round(time.Millisecond).String())
	return failure
}
