package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/presence"
)

const (
	// settleTimeout limits how long startup waits for an election and for the node to
	// read the event log.
	settleTimeout = 30 * time.Second

	// retentionSlack extends the time for which the event log keeps entries, because
	// nodes aren't all at the same position.
	retentionSlack = time.Minute

	// The event log may use diskFactor times history.max_bytes on disk, but at
	// least minDisk. It also holds events that are no longer in memory but whose
	// idempotency keys are still remembered.
	diskFactor = 8
	minDisk    = 1 << 30
)

// member is the daemon's node in a cluster.
type member struct {
	node      *cluster.Node
	directory *presence.Directory

	mu      sync.Mutex
	leaving bool

	serveOnce sync.Once
	served    chan struct{} // closed when the node first starts serving
}

// newMember starts the daemon's node. If tlsConfig is nil, its connections use plain
// text.
func newMember(cfg Config, tlsConfig *tls.Config, b *broker.Broker, version string, log *slog.Logger) (*member, error) {
	node, err := cluster.Start(clusterConfig(cfg, tlsConfig, log), b)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}

	directory := presence.New(presence.Config{
		Conn:      node.Conn(),
		Cluster:   cfg.Cluster.Name,
		Node:      node.Name(),
		Broker:    b,
		Version:   version,
		StartedAt: time.Now(),
		Status:    node.Status,
		Logger:    log,
	})
	node.Estimate(directory.Recipients)

	return &member{node: node, directory: directory, served: make(chan struct{})}, nil
}

func clusterConfig(cfg Config, tlsConfig *tls.Config, log *slog.Logger) cluster.Config {
	c := cluster.Config{
		Name:     cfg.Cluster.Name,
		Replicas: cfg.Cluster.Replicas,
		MaxBytes: max(diskFactor*int64(cfg.History.MaxBytes), minDisk),
		Logger:   log,
	}
	if cfg.History.MaxAge > 0 {
		c.MaxAge = max(cfg.History.MaxAge, cfg.History.IdempotencyWindow) + retentionSlack
	}

	if cfg.Cluster.Mode == ClusterEmbedded {
		c.Embedded = &cluster.Embedded{
			Dir:       cfg.Cluster.Dir,
			Addr:      cfg.Cluster.Addr,
			Advertise: cfg.Cluster.Advertise,
			Peers:     cfg.Cluster.Peers,
			Secret:    cfg.Cluster.Secret,
			TLS:       tlsConfig,
			Sync:      cfg.Cluster.Sync,
		}
	} else {
		c.External = &cluster.External{URL: cfg.Cluster.URL, CredentialsFile: cfg.Cluster.CredentialsFile, TLS: tlsConfig}
	}

	return c
}

// clusterBroker is a [control.Broker] that publishes to the cluster and leaves
// everything else to the node's own broker.
type clusterBroker struct {
	*broker.Broker

	node *cluster.Node
}

// Publish publishes m on all nodes.
func (b clusterBroker) Publish(ctx context.Context, m broker.Message) (broker.Receipt, error) {
	return b.node.Publish(ctx, m)
}

// ClearRetained clears retained values on all nodes.
func (b clusterBroker) ClearRetained(ctx context.Context, c broker.Clear) (cleared int, err error) {
	return b.node.ClearRetained(ctx, c)
}

// Submit implements [control.Pipeline].
func (b clusterBroker) Submit(ctx context.Context, m broker.Message) (func(context.Context) (broker.Receipt, error), error) {
	return b.node.Submit(ctx, m)
}

// run runs the node until ctx ends. It updates the health service when the node
// starts or stops serving.
func (m *member) run(ctx context.Context, service *control.Service) error {
	both, ctx := errgroup.WithContext(ctx)

	both.Go(func() error {
		return m.node.Run(ctx, func(serving bool) {
			m.mu.Lock()
			defer m.mu.Unlock()

			if m.leaving {
				return
			}
			service.SetServing(serving)
			if serving {
				m.serveOnce.Do(func() { close(m.served) })
			}
		})
	})
	both.Go(func() error { return m.directory.Run(ctx, service) })

	return both.Wait()
}

// settle calls settled once the node is serving, or after settleTimeout. It doesn't
// call settled if ctx ends first.
func (m *member) settle(ctx context.Context, settled func(serving bool)) {
	timeout := time.NewTimer(settleTimeout)
	defer timeout.Stop()

	select {
	case <-m.served:
		settled(true)
	case <-timeout.C:
		settled(false)
	case <-ctx.Done():
	}
}

// leave makes the health service report that the daemon isn't serving. From now
// on, it reports this regardless of the node's state.
func (m *member) leave(service *control.Service) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.leaving = true
	m.directory.SetDraining(true)
	service.SetServing(false)
}

// Remove implements [control.Membership].
func (m *member) Remove(ctx context.Context, name string) (left []string, err error) {
	left, err = m.node.Remove(ctx, name)
	if rejected, ok := errors.AsType[*cluster.RemoveError](err); ok {
		return nil, &control.MembershipError{Unknown: errors.Is(err, cluster.ErrNoSuchMember), Reason: rejected.Reason}
	}
	return left, err
}
