package hooks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peald/peald/internal/broker"
)

const (
	// pollInterval is the time between two checks for changes.
	pollInterval = 100 * time.Millisecond
	// A node of a cluster becomes ready to send once it has been serving for minSettling.
	// By then it has received announcements from all other
	// nodes.
	minSettling = 2 * time.Second
)

// ErrUnknownHook is returned for a name that isn't the name of a hook.
var ErrUnknownHook = errors.New("no such hook")

// Source reports the users and topics whose streams have changed.
type Source interface {
	// Take returns the users and topics that have changed since the last call, with the
	// current numbers of their streams. complete is false if it lacks some of them.
	Take() (users []broker.User, topics []broker.Topic, complete bool)
	// All returns the names of all users and topics with streams.
	All() (users, topics []string)
	// Settled reports whether everything that All should return is known.
	Settled() bool
	// Close stops collecting changes.
	Close()
}

// Cluster determines which node performs a duty: a task for one of the nodes that are
// ready for it. Its methods must be safe for concurrent use.
type Cluster interface {
	// SetDuties sets the names of the duties that this node is ready to perform.
	SetDuties(names []string)
	// Performs reports whether this node must perform a duty.
	Performs(duty string) bool
}

// Config configures a [Manager].
type Config struct {
	// Follow returns a new Source. There is at most one at a time.
	Follow func() Source
	// Serving reports whether this node accepts streams.
	Serving func() bool
	// Cluster is nil if clustering is disabled. Node is the name of this node.
	Cluster Cluster
	Node    string
	// Version is the daemon's version.
	Version string
	// Logger receives log messages for the operator. They never include secrets. If nil,
	// nothing is logged.
	Logger *slog.Logger
}

// Manager sends the events of all hooks. Its methods are safe for concurrent use.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	client  *client
	metrics metrics
	changed chan struct{} // has a token after Reconfigure

	mu      sync.Mutex
	workers []*worker // in the order of the hooks

	// Owned by Run.

	active       []*worker // the workers that are running
	stops        map[*worker]func()
	source       Source // nil if there are no hooks
	servingSince time.Time
}

// New returns a Manager without hooks.
func New(cfg Config) *Manager {
	m := &Manager{
		cfg: cfg, log: cfg.Logger, client: newClient(cfg.Version), metrics: newMetrics(),
		changed: make(chan struct{}, 1), stops: make(map[*worker]func()),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m
}

// Reconfigure replaces the hooks. Hooks that have the same name as before keep what is
// waiting to be sent.
func (m *Manager) Reconfigure(hooks []Hook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	previous := m.workers
	m.workers = make([]*worker, 0, len(hooks))
	for _, w := range previous {
		if !slices.ContainsFunc(hooks, func(h Hook) bool { return h.Name() == w.name }) {
			m.metrics.latency.DeleteLabelValues(w.name)
		}
	}
	for _, h := range hooks {
		i := slices.IndexFunc(previous, func(w *worker) bool { return w.name == h.Name() })
		if i < 0 {
			m.workers = append(m.workers, newWorker(h, m.client, m.log, m.metrics.latency.WithLabelValues(h.Name())))
			continue
		}
		previous[i].configure(h)
		m.workers = append(m.workers, previous[i])
	}

	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run sends events until ctx is done. What is still waiting then isn't sent, because the
// next sender begins with a snapshot.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	tick.Stop()
	defer tick.Stop()
	defer m.client.close()
	defer m.apply(ctx, nil)

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.changed:
			m.apply(ctx, m.all())
			if len(m.active) == 0 {
				tick.Stop() // without hooks, nothing runs
			} else {
				tick.Reset(pollInterval)
			}
		case now := <-tick.C:
			m.step(now)
		}
	}
}

// all returns the workers of all hooks.
func (m *Manager) all() []*worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.workers
}

// apply starts and stops workers, so that those in next are running.
func (m *Manager) apply(ctx context.Context, next []*worker) {
	if len(next) > 0 && m.source == nil {
		m.source = m.cfg.Follow()
	}
	for _, w := range next {
		if m.stops[w] == nil {
			workerCtx, cancel := context.WithCancel(ctx)
			var running sync.WaitGroup
			running.Go(func() { w.run(workerCtx) })
			m.stops[w] = func() { cancel(); running.Wait() }
		}
		if w.needsAll() {
			users, topics := m.source.All()
			w.replace(users, topics, time.Now())
		}
	}

	for _, w := range m.active {
		if !slices.Contains(next, w) {
			w.setRole(false, false)
			m.stops[w]()
			delete(m.stops, w)
		}
	}
	m.active = next

	if len(next) == 0 && m.source != nil {
		m.source.Close()
		m.source = nil
		if m.cfg.Cluster != nil {
			m.cfg.Cluster.SetDuties(nil)
		}
	}
}

// step processes changes, and determines what this node sends.
func (m *Manager) step(now time.Time) {
	users, topics, complete := m.source.Take()
	workers := m.active
	if !complete {
		all, allTopics := m.source.All()
		for _, w := range workers {
			w.replace(all, allTopics, now)
		}
	}
	for _, w := range workers {
		w.observe(users, topics, now)
	}

	switch serving := m.cfg.Serving(); {
	case !serving:
		m.servingSince = time.Time{}
	case m.servingSince.IsZero():
		m.servingSince = now
	}

	var duties []string
	for _, w := range workers {
		if m.isReady(w, now) {
			duties = append(duties, w.duty())
		}
	}
	if m.cfg.Cluster != nil {
		m.cfg.Cluster.SetDuties(duties)
	}
	for _, w := range workers {
		duty := w.duty()
		ready := slices.Contains(duties, duty)
		w.setRole(ready, ready && (m.cfg.Cluster == nil || m.cfg.Cluster.Performs(duty)))
	}
}

// isReady reports whether this node knows enough to send a hook's snapshot. By then,
// browsers that lost their streams when this node started have had the hook's delay to
// reconnect.
func (m *Manager) isReady(w *worker, now time.Time) bool {
	settling := w.settings().Delay
	if m.cfg.Cluster != nil {
		settling = max(settling, minSettling)
	}
	if m.servingSince.IsZero() || now.Sub(m.servingSince) < settling {
		return false
	}
	// A sender stays ready while it gets to know a node that has just joined.
	return w.isSending() || m.source.Settled()
}

// duty returns the name of the duty to send the hook's events. It contains a hash of the
// URL, because the URL may be secret.
func (w *worker) duty() string {
	sum := sha256.Sum256([]byte(w.settings().URL))
	return "hook:" + hex.EncodeToString(sum[:8])
}

func (w *worker) settings() Hook {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hook
}

func (w *worker) isSending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outbox.phase != stopped
}

// TestResult is the result of a test message.
type TestResult struct {
	// URL is the name of the hook, and MessageID the message's webhook-id.
	URL, MessageID string
	// Status is the status of the response, or 0 if there was none. Body is the start of
	// the response's body, at most 1 KiB of valid UTF-8.
	Status int
	Body   string
	// Duration is the time from the start of the request until the response.
	Duration time.Duration
	// Err is nil if the receiver accepted the message.
	Err error
}

// Test sends one signed test message from this node, whether or not it sends the hook's
// events. Name may be empty if there is only one hook.
func (m *Manager) Test(ctx context.Context, name string) (TestResult, error) {
	workers := m.all()
	if name == "" && len(workers) == 1 {
		return workers[0].test(ctx, m.cfg.Node), nil
	}
	i := slices.IndexFunc(workers, func(w *worker) bool { return w.name == name })
	if i < 0 {
		return TestResult{}, ErrUnknownHook
	}
	return workers[i].test(ctx, m.cfg.Node), nil
}

// Describe implements [prometheus.Collector].
func (m *Manager) Describe(ch chan<- *prometheus.Desc) { m.metrics.describe(ch) }

// Collect implements [prometheus.Collector].
func (m *Manager) Collect(ch chan<- prometheus.Metric) {
	m.metrics.collect(ch, m.Status(), time.Now())
}
