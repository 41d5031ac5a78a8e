package source

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"
)

const (
	// readyInterval is how often a runner checks whether messages can be published.
	readyInterval = time.Second
	// unreadyGrace is how long that may be impossible before the reader is stopped. A node
	// stays ready during an election.
	unreadyGrace = 2 * time.Second

	firstRunDelay = time.Second
	maxRunDelay   = 15 * time.Second
)

// errEnded is the failure of a reader that returned without an error.
var errEnded = errors.New("the reader ended")

// runner runs the reader of one source, and starts it again after failures.
type runner struct {
	source    Source
	reader    Reader
	sink      *Sink
	publisher Publisher
	log       *slog.Logger
	status    *status
	stop      context.CancelFunc
	done      chan struct{} // closed when the reader has stopped for good
	removed   bool          // from the configuration; owned by the Manager
}

// hasStopped reports whether the reader has stopped for good.
func (r *runner) hasStopped() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// newRunner returns a runner for s, whose counters continue from c.
func newRunner(cfg Config, s Source, c *counts) (*runner, error) {
	mapping, err := NewMapping(s.Map, s.Kind.Schema())
	if err != nil {
		return nil, err
	}

	log := cfg.Logger.With("source", s.Name)
	st := newStatus(s.Name, s.Kind.Kind(), c)

	return &runner{
		source: s,
		reader: s.Kind.NewReader(Options{Name: s.Name, Node: cfg.Node, Logger: log}),
		sink: &Sink{
			source: s.Name, mapping: mapping, publisher: cfg.Publisher, log: log, status: st,
			rejects: rate.Sometimes{First: logRejected, Interval: logInterval},
		},
		publisher: cfg.Publisher,
		log:       log,
		status:    st,
		done:      make(chan struct{}),
	}, nil
}

// run runs the reader until ctx ends.
func (r *runner) run(ctx context.Context) {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = firstRunDelay, maxRunDelay

	for r.awaitReady(ctx) {
		r.status.set(StateConnecting)
		settled := r.status.counts.settled()

		err := r.read(ctx)
		if ctx.Err() != nil {
			return
		}

		if r.status.counts.settled() != settled {
			delays.Reset()
		}
		delay := delays.NextBackOff()
		r.note(err, delay)

		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}

// note records and logs why the reader stopped.
func (r *runner) note(err error, delay time.Duration) {
	if err == nil {
		err = errEnded
	}

	if unavailable, ok := errors.AsType[*UnavailableError](err); ok {
		r.status.stopped(StateWaiting, unavailable)
		r.log.Warn("source waiting for the cluster", "error", unavailable.Err)
		return
	}

	r.status.counts.failures.Add(1)
	r.status.stopped(StateFailed, err)
	r.log.Warn("source failed", "error", err, "retry_in", delay.Round(time.Millisecond).String())
}

// awaitReady waits until messages can be published. It returns false if ctx ends first.
func (r *runner) awaitReady(ctx context.Context) bool {
	for {
		err := r.publisher.Ready()
		if err == nil {
			return ctx.Err() == nil
		}
		r.status.waiting(err)

		select {
		case <-ctx.Done():
			return false
		case <-time.After(readyInterval):
		}
	}
}

// read runs the reader once. It stops it if messages can't be published for a while, so
// that another node can read the source.
func (r *runner) read(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)

	var watching sync.WaitGroup
	watching.Go(func() { r.watchReady(ctx, stop) })
	err := r.reader.Run(ctx, r.sink)
	if cause, ok := errors.AsType[*UnavailableError](context.Cause(ctx)); ok {
		err = cause
	}
	stop(nil)
	watching.Wait()

	return err
}

// watchReady calls stop once messages can't be published for unreadyGrace.
func (r *runner) watchReady(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()

	for ready := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}

		err := r.publisher.Ready()
		if err == nil {
			ready = time.Now()
		} else if time.Since(ready) > unreadyGrace {
			stop(&UnavailableError{err})
			return
		}
	}
}
