package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Subscription is a subscription to a stream. Its methods are safe for concurrent use,
// but only one iteration may be in progress.
type Subscription struct {
	ctx context.Context //nolint:containedctx // the subscription ends with it
	cfg config

	iterating atomic.Bool

	mu       sync.Mutex
	position string
}

// Subscribe returns a subscription to the stream at url. It doesn't connect: each
// iteration over the events opens its own connection. Iterations end when ctx is done.
// Any error is about the URL or an option.
func Subscribe(ctx context.Context, url string, options ...Option) (*Subscription, error) {
	cfg, err := newConfig(url, options)
	if err != nil {
		return nil, err
	}
	return &Subscription{ctx: ctx, cfg: cfg, position: cfg.position}, nil
}

// Position returns the id to resume from: that of the last event that the loop has
// received, or of a later position mark. It is empty if there is none yet. While the
// body of the loop runs, its event counts as received.
func (s *Subscription) Position() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position
}

// moveTo sets the position and returns it.
func (s *Subscription) moveTo(id []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(id) != s.position {
		s.position = string(id)
	}
	return s.position
}

// Events returns an iterator over the events. The first connection resumes from the
// [Subscription.Position]. The package documentation describes how an iteration ends.
// An error is always the last element.
func (s *Subscription) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if !s.iterating.CompareAndSwap(false, true) {
			yield(Event{}, ErrIterating)
			return
		}
		defer s.iterating.Store(false)

		it := &iteration{sub: s, cfg: &s.cfg, client: s.cfg.client, yield: yield, delays: backoff.ExponentialBackOff{
			// Random times from 0 to twice the interval: full jitter.
			InitialInterval: s.cfg.first / 2, MaxInterval: s.cfg.max / 2, Multiplier: 2, RandomizationFactor: 1,
		}}
		if it.client == nil {
			transport := newTransport()
			defer transport.CloseIdleConnections()
			it.client = &http.Client{Transport: transport}
		}
		it.run()
	}
}

// newTransport returns a transport for one iteration.
func newTransport() *http.Transport {
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		return standard.Clone()
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
}

// iteration is one iteration over the events of a subscription. Its goroutine owns it.
type iteration struct {
	sub    *Subscription
	cfg    *config
	client *http.Client
	yield  func(Event, error) bool
	left   bool // the caller has left the loop

	token string
	asked bool // token is set

	retry    time.Duration // what the server asked for last; 0 if it hasn't
	progress bool          // the last connection was useful
	delays   backoff.ExponentialBackOff
}

// run opens one connection after another until the iteration ends.
func (it *iteration) run() {
	ctx := it.sub.ctx
	for ctx.Err() == nil {
		err := it.attempt(ctx)
		if it.left || err == nil {
			return
		}
		if ctx.Err() != nil {
			break
		}

		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // it would add the URL with its secrets
		}
		if it.cfg.once || isPermanent(err) {
			it.yield(Event{}, fmt.Errorf("%s: %w", it.cfg.redacted(), err))
			return
		}
		it.wait(ctx, err)
	}
	it.yield(Event{}, context.Cause(ctx))
}

// wait waits until it is time to reconnect after err, or ctx is done.
func (it *iteration) wait(ctx context.Context, err error) {
	delay := it.delay(err)
	it.cfg.onRetry(err, delay)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// delay returns the delay before reconnecting after err.
func (it *iteration) delay(err error) time.Duration {
	least := min(it.retry, longestDelay)
	if status, ok := errors.AsType[*StatusError](err); ok && status.RetryAfter > 0 {
		least = status.RetryAfter
	}
	if it.progress {
		it.delays.Reset()
		if least > 0 {
			return least // the server has given each client a different one
		}
	}
	return least + it.delays.NextBackOff()
}

// attempt opens a stream and yields its events until it closes. After a 401 it asks for
// a new token and tries once more. It returns nil if there is nothing more to receive.
func (it *iteration) attempt(ctx context.Context) error {
	it.progress = false
	err := it.connect(ctx)
	status, ok := errors.AsType[*StatusError](err)
	if !ok || status.StatusCode != http.StatusUnauthorized || it.cfg.token == nil {
		return err
	}
	it.asked = false
	return it.connect(ctx)
}
