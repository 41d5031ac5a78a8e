package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/peald/peald/internal/broker"
)

const (
	// firstRetryDelay and maxRetryDelay bound the delays between attempts, before
	// jitter.
	firstRetryDelay = 250 * time.Millisecond
	maxRetryDelay   = 10 * time.Second
	// An empty batch is sent after idleAfter without events. It lets a receiver that has
	// lost its state notice that, and ask for a snapshot.
	idleAfter = time.Minute
	// An outage is logged once all attempts have failed for outageAfter.
	outageAfter = 5 * time.Second
)

// errResync reports that the receiver has asked for a snapshot.
var errResync = errors.New("the receiver has asked for a snapshot")

// worker sends the events of one hook.
type worker struct {
	name    string
	client  *client
	log     *slog.Logger
	latency prometheus.Observer
	wake    chan struct{} // has a token after something to send was added

	mu      sync.Mutex
	hook    Hook
	signer  signer
	tracker *tracker
	outbox  outbox
	cancel  context.CancelFunc // cancels the batch in flight; nil if there is none
	stats   workerStats
	stale   bool      // the tracker lacks names
	ready   bool      // this node is ready to send
	outage  time.Time // the first of the attempts that have failed in a row; zero if the last one succeeded
	logged  bool      // the outage has been logged
}

// workerStats holds a worker's counters and the results of its last attempts.
type workerStats struct {
	sent, dropped, snapshots, accepted, resyncs, failed, retried int64

	lastSuccess, lastFailure time.Time
	lastError                string
}

func newWorker(h Hook, c *client, log *slog.Logger, latency prometheus.Observer) *worker {
	w := &worker{
		name: h.Name(), client: c, log: log.With("hook", h.Name()), latency: latency,
		wake: make(chan struct{}, 1), tracker: newTracker(h.Delay),
	}
	w.configure(h)
	return w
}

// configure applies the settings of a hook with the same name.
func (w *worker) configure(h Hook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	eventsChanged := slices.ContainsFunc(EventTypes(), func(of string) bool { return w.hook.wants(of) != h.wants(of) })
	for _, of := range []kind{userKind, topicKind} {
		if !h.wantsKind(of) {
			w.tracker.forget(of)
		}
	}
	w.hook, w.tracker.delay = h, h.Delay
	w.signer, _ = newSigner(h.Secret) // has been checked
	w.stale = w.stale || eventsChanged
	if eventsChanged && w.outbox.phase != stopped {
		w.outbox.requireSnapshot()
		w.interrupt()
		w.notify()
	}
}

// needsAll reports whether the caller must call replace with all names, because the hook
// is new or has other events than before. It does so once.
func (w *worker) needsAll() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	stale := w.stale
	w.stale = false
	return stale
}

// setRole sets whether this node is ready to send the hook's events, and whether it
// sends them.
func (w *worker) setRole(ready, sending bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = ready
	switch isSending := w.outbox.phase != stopped; {
	case sending == isSending:
	case sending:
		w.log.Info("webhooks started")
		w.outbox.start()
		w.notify()
	default:
		w.log.Info("webhooks stopped on this node", "pending", w.outbox.pending())
		w.outbox.stop()
		w.interrupt()
		w.outage, w.logged = time.Time{}, false
	}
}

// observe records which users and topics have streams. The order of now must be that of
// the calls.
func (w *worker) observe(users []broker.User, topics []broker.Topic, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hook.wantsKind(userKind) {
		for _, u := range users {
			w.observeKey(key{userKind, u.ID}, u.Connections > 0, now)
		}
	}
	if w.hook.wantsKind(topicKind) {
		for _, t := range topics {
			w.observeKey(key{topicKind, t.Name}, t.Subscribers > 0, now)
		}
	}
	for _, d := range w.tracker.expire(now) {
		w.add(event{key: d.key, at: d.at, due: now})
	}
}

// replace records the names of all users and topics that have streams.
func (w *worker) replace(users, topics []string, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[key]bool, len(users)+len(topics))
	for _, name := range users {
		all[key{userKind, name}] = true
	}
	for _, name := range topics {
		all[key{topicKind, name}] = true
	}

	for _, k := range w.tracker.keys() {
		w.observeKey(k, all[k], now)
	}
	for k := range all {
		if w.hook.wantsKind(k.kind) {
			w.observeKey(k, true, now)
		}
	}
}

// observeKey records whether a key has streams. The caller holds w.mu.
func (w *worker) observeKey(k key, hasStreams bool, now time.Time) {
	if w.tracker.observe(k, hasStreams, now) {
		w.add(event{key: k, present: true, at: now, due: now})
	}
}

// add adds an event if the receiver wants it. The caller holds w.mu.
func (w *worker) add(e event) {
	if !w.hook.wants(typeOf(e.key.kind, e.present)) {
		return
	}
	if dropped := w.outbox.add(e); dropped > 0 {
		w.stats.dropped += int64(dropped)
		w.log.Warn("webhook events dropped", "events", dropped)
		if w.outbox.phase == snapshotDue {
			w.interrupt()
		}
	}
	w.notify()
}

// interrupt cancels the batch in flight. The caller holds w.mu.
func (w *worker) interrupt() {
	if w.cancel != nil {
		w.cancel()
	}
}

func (w *worker) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run sends batches until ctx is done.
func (w *worker) run(ctx context.Context) {
	resync := newBackOff()
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	isIdle := false
	for {
		b, batchCtx := w.next(ctx, isIdle)
		isIdle = false
		if b == nil {
			select {
			case <-w.wake:
			case <-idle.C:
				isIdle = true
				idle.Reset(idleAfter)
			case <-ctx.Done():
				return
			}
			continue
		}

		err := w.deliver(batchCtx, b)
		w.finish(b, err)
		idle.Reset(idleAfter)
		switch {
		case errors.Is(err, errResync):
			// A receiver that asks for one snapshot after another must not cause a flood.
			select {
			case <-time.After(resync.NextBackOff()):
			case <-ctx.Done():
				return
			}
		case len(b.events) > 0 && err == nil:
			resync.Reset()
		}
	}
}

func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = firstRetryDelay, maxRetryDelay, 2
	return b
}

// next returns the next batch and the context in which to send it. It returns nil if
// there is nothing to send. If idle is true, it may return an empty batch.
func (w *worker) next(ctx context.Context, idle bool) (*batch, context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.outbox.next(w.hook, w.tracker.keys, time.Now(), idle)
	if b == nil {
		return nil, nil
	}
	ctx, w.cancel = context.WithCancel(ctx)
	return b, ctx
}

// deliver sends a batch until the receiver accepts it, asks for a snapshot, or ctx is
// done.
func (w *worker) deliver(ctx context.Context, b *batch) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, w.attempt(ctx, b) },
		backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(error, time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.stats.retried++
		}))
	return err
}

// attempt sends a batch once.
func (w *worker) attempt(ctx context.Context, b *batch) error {
	w.mu.Lock()
	to, signer := w.hook.URL, w.signer
	w.mu.Unlock()

	resp, err := w.client.post(ctx, to, signer, b.id, b.body)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case err != nil:
	case resp.ok():
		w.noteResponse(&w.stats.accepted)
		return nil
	case resp.status == http.StatusConflict && b.sequence > 1:
		w.noteResponse(&w.stats.resyncs)
		return backoff.Permanent(errResync)
	default:
		err = resp.err()
	}

	w.noteFailure(err)
	if resp.retryAfter > 0 {
		return &backoff.RetryAfterError{Duration: resp.retryAfter}
	}
	return err
}

// noteResponse counts a response that isn't a failure, and ends the outage.
func (w *worker) noteResponse(counter *int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	*counter++
	w.stats.lastSuccess = now
	if w.logged {
		w.log.Info("webhooks delivered again", "outage", now.Sub(w.outage).Round(time.Millisecond).String(), "pending", w.outbox.pending())
	}
	w.outage, w.logged = time.Time{}, false
}

// noteFailure counts a failed attempt, and logs an outage once.
func (w *worker) noteFailure(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.stats.failed++
	w.stats.lastFailure, w.stats.lastError = now, err.Error()
	if w.outage.IsZero() {
		w.outage = now
	}

	w.log.Debug("webhook attempt failed", "error", err)
	if !w.logged && now.Sub(w.outage) >= outageAfter {
		w.logged = true
		w.log.Warn("webhooks not delivered", "error", err, "pending", w.outbox.pending())
	}
}

// finish records the result of a batch.
func (w *worker) finish(b *batch, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
	w.cancel = nil
	switch {
	case errors.Is(err, errResync):
		if b.version == w.outbox.version {
			w.log.Info("webhook snapshot requested by the receiver")
			w.outbox.requireSnapshot()
		}
	case err == nil && w.outbox.accepted(b):
		w.stats.sent += int64(len(b.events))
		if b.last {
			w.stats.snapshots++
		}
		now := time.Now()
		for _, e := range b.events {
			w.latency.Observe(now.Sub(e.due).Seconds())
		}
	}
}

// test sends one test message and returns the response.
func (w *worker) test(ctx context.Context, node string) TestResult {
	w.mu.Lock()
	to, signer := w.hook.URL, w.signer
	w.mu.Unlock()

	start := time.Now()
	result := TestResult{URL: w.name, MessageID: fmt.Sprintf("test-%d", start.UnixNano())}
	body := encodeMessage(testMessage, testData{node}, start)
	resp, err := w.client.post(ctx, to, signer, result.MessageID, body)
	result.Duration = time.Since(start)
	result.Status, result.Body = resp.status, resp.body
	switch {
	case err != nil:
		result.Err = err
	case !resp.ok():
		result.Err = resp.err()
	}
	return result
}
