package source

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
)

// Source is the configuration of one source.
type Source struct {
	// Name is unique among the sources, and part of the derived idempotency keys.
	Name string
	// Kind holds the settings.
	Kind Kind
	// Map overrides the default mapping.
	Map Map
}

// Validate returns nil if s is valid apart from its name, or a *[SettingError].
func (s Source) Validate() error {
	if err := s.Kind.Validate(); err != nil {
		return err
	}
	_, err := NewMapping(s.Map, s.Kind.Schema())

	return err
}

// Config configures a Manager.
type Config struct {
	Publisher Publisher
	// Node is a name for this process, which no other node of the cluster has.
	Node   string
	Logger *slog.Logger
}

// Manager runs the readers of all configured sources. Its methods are safe for
// concurrent use. It is a [prometheus.Collector].
type Manager struct {
	cfg     Config
	metrics []metric
	changed chan struct{} // has a token when wanted has changed

	mu      sync.Mutex
	wanted  []Source
	runners []*runner // in the order of wanted, once Run has applied it

	removed map[string]*runner // whose readers may not have stopped yet, by name; owned by Run
}

// NewManager returns a Manager without sources.
func NewManager(cfg Config) *Manager {
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))

	return &Manager{cfg: cfg, metrics: metrics(), changed: make(chan struct{}, 1), removed: make(map[string]*runner)}
}

// Reconfigure replaces the sources, which must be valid. Sources that are the same as
// before keep running. A source that has changed starts once its earlier reader has
// stopped. Reconfigure doesn't wait for that.
func (m *Manager) Reconfigure(sources []Source) {
	m.mu.Lock()
	m.wanted = slices.Clone(sources)
	m.mu.Unlock()

	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run runs the sources until ctx ends, and returns once all readers have stopped. It must
// be called once.
func (m *Manager) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()

	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
			m.apply(ctx, &running)
		}
	}
}

// Statuses returns the status of each source, in the order of the configuration.
func (m *Manager) Statuses() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()

	all := make([]Status, 0, len(m.runners))
	for _, r := range m.runners {
		all = append(all, r.status.read())
	}

	return all
}

// apply stops and starts readers until they match the configuration.
func (m *Manager) apply(ctx context.Context, running *sync.WaitGroup) {
	m.mu.Lock()
	defer m.mu.Unlock()

	maps.DeleteFunc(m.removed, func(_ string, r *runner) bool { return r.hasStopped() })
	earlier := m.removed
	for _, r := range m.runners {
		earlier[r.source.Name] = r
	}

	next := make([]*runner, 0, len(m.wanted))
	for _, s := range m.wanted {
		r := earlier[s.Name]
		delete(earlier, s.Name)
		if r == nil || r.removed || !reflect.DeepEqual(r.source, s) {
			r = m.replace(ctx, running, r, s)
		}
		if r != nil {
			next = append(next, r)
		}
	}

	for name, r := range earlier {
		if !r.removed {
			r.stop()
			r.removed = true
			m.cfg.Logger.Info("source removed", "source", name)
		}
	}
	m.runners = next
}

// replace starts a source. If old isn't nil, replace stops it, and the new reader waits
// until the old one has stopped. It returns nil if s isn't valid.
func (m *Manager) replace(ctx context.Context, running *sync.WaitGroup, old *runner, s Source) *runner {
	c := new(counts)
	if old != nil {
		old.stop()
		c = old.status.counts
	}

	r, err := newRunner(m.cfg, s, c)
	if err != nil {
		m.cfg.Logger.Error("source not started", "source", s.Name, "error", err)
		return nil
	}

	ctx, r.stop = context.WithCancel(ctx)
	running.Go(func() {
		defer close(r.done)
		defer r.stop()
		if old != nil {
			<-old.done
		}
		r.run(ctx)
	})

	return r
}
