package hooks_test

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/hooks"
)

// truth holds the streams that sources report.
type truth struct {
	mu            sync.Mutex
	users, topics map[string]int // streams by name
	sources       map[*source]bool
}

func newTruth() *truth {
	return &truth{users: make(map[string]int), topics: make(map[string]int), sources: make(map[*source]bool)}
}

// set sets how many streams a user and a topic have. Empty names are ignored.
func (w *truth) set(user, topic string, streams int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if user != "" {
		w.users[user] = streams
	}
	if topic != "" {
		w.topics[topic] = streams
	}
	for s := range w.sources {
		if user != "" {
			s.users = append(s.users, user)
		}
		if topic != "" {
			s.topics = append(s.topics, topic)
		}
	}
}

// present returns the keys with streams, as receiver.present returns them.
func (w *truth) present() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []string
	for name, n := range w.users {
		if n > 0 {
			keys = append(keys, "user "+name)
		}
	}
	for name, n := range w.topics {
		if n > 0 {
			keys = append(keys, "topic "+name)
		}
	}
	slices.Sort(keys)
	return keys
}

func (w *truth) follow() hooks.Source {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &source{truth: w}
	w.sources[s] = true
	return s
}

// source is a node's view of the truth.
type source struct {
	truth         *truth
	users, topics []string // that have changed
	lost          bool     // changes are missing
}

func (s *source) Take() (users []broker.User, topics []broker.Topic, complete bool) {
	s.truth.mu.Lock()
	defer s.truth.mu.Unlock()
	slices.Sort(s.users)
	slices.Sort(s.topics)
	for _, name := range slices.Compact(s.users) {
		users = append(users, broker.User{ID: name, Connections: s.truth.users[name]})
	}
	for _, name := range slices.Compact(s.topics) {
		topics = append(topics, broker.Topic{Name: name, Subscribers: s.truth.topics[name]})
	}
	complete = !s.lost
	s.users, s.topics, s.lost = nil, nil, false
	return users, topics, complete
}

func (s *source) All() (users, topics []string) {
	s.truth.mu.Lock()
	defer s.truth.mu.Unlock()
	has := func(counts map[string]int) (names []string) {
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			if counts[name] > 0 {
				names = append(names, name)
			}
		}
		return names
	}
	return has(s.truth.users), has(s.truth.topics)
}

func (s *source) Settled() bool { return true }

func (s *source) Close() {
	s.truth.mu.Lock()
	defer s.truth.mu.Unlock()
	delete(s.truth.sources, s)
}

// loseChanges makes all sources lose what hasn't been taken.
func (w *truth) loseChanges() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.sources {
		s.users, s.topics, s.lost = nil, nil, true
	}
}

// node is a node of a cluster.
type node struct {
	*hooks.Manager

	cluster *cluster
	number  int
	stop    func() // ends Run

	// Guarded by cluster.mu.

	serving bool
	duties  map[string]time.Time
}

// cluster elects the first of its serving nodes that are ready for a duty.
type cluster struct {
	mu    sync.Mutex
	nodes []*node
}

// SetDuties implements [hooks.Cluster].
func (n *node) SetDuties(names []string) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	ready := make(map[string]time.Time)
	for _, name := range names {
		ready[name] = time.Now()
		if since, ok := n.duties[name]; ok {
			ready[name] = since
		}
	}
	n.duties = ready
}

// Performs implements [hooks.Cluster].
func (n *node) Performs(duty string) bool {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	for _, other := range n.cluster.nodes {
		if since, ok := other.duties[duty]; ok && other.serving && (other != n || time.Since(since) >= time.Second) {
			return other == n
		}
	}
	return false
}

func (n *node) setServing(serving bool) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	n.serving = serving
}

func (n *node) isServing() bool {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return n.serving
}

// run runs a manager until the test ends or stop is called.
func run(t *testing.T, cfg hooks.Config, transport http.RoundTripper, configured ...hooks.Hook) (m *hooks.Manager, stop func()) {
	t.Helper()
	if cfg.Serving == nil {
		cfg.Serving = func() bool { return true }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	m = hooks.New(cfg)
	if transport != nil {
		m.SetTransport(transport)
	}
	m.Reconfigure(configured)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return m, stop
}

// join starts a node of a cluster.
func (c *cluster) join(t *testing.T, w *truth, transport http.RoundTripper, configured ...hooks.Hook) *node {
	t.Helper()
	c.mu.Lock()
	n := &node{cluster: c, number: len(c.nodes), serving: true}
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	n.Manager, n.stop = run(t, hooks.Config{
		Follow: w.follow, Cluster: n, Node: string(rune('a' + n.number)), Serving: n.isServing,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", n.number),
	}, transport, configured...)
	return n
}
