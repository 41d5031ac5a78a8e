package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/presence"
)

const (
	// logSlack is for how much longer the cluster's log is kept than nodes
	// need it, since they are not all at the same place in it.
	logSlack = time.Minute
	// logShare is how many times history.max_bytes the cluster's log may have
	// on disk, where events that are gone from memory are kept for their
	// idempotency keys, and minLog is what it may have at least.
	logShare = 8
	minLog   = 1 << 30
)

// member is the daemon's place in its cluster.
type member struct {
	node      *cluster.Node
	directory *presence.Directory

	mu      sync.Mutex
	leaving bool

	serves sync.Once
	served chan struct{} // closed when the node serves for the first time
}

// clusterBroker is a [control.Broker] that publishes on the node's cluster. The
// node's own broker does the rest.
type clusterBroker struct {
	*broker.Broker

	node *cluster.Node
}

// Publish publishes m on all nodes.
func (b clusterBroker) Publish(ctx context.Context, m broker.Message) (broker.Receipt, error) {
	return b.node.Publish(ctx, m)
}

// Submit implements [control.Pipeline].
func (b clusterBroker) Submit(ctx context.Context, m broker.Message) (func(context.Context) (broker.Receipt, error), error) {
	return b.node.Submit(ctx, m)
}

// settleFor is how long a start waits for the cluster: for an election, and for
// a log to be read.
const settleFor = 30 * time.Second

// settle calls settled when the node serves, or has waited long enough for that,
// unless ctx ends first.
func (m *member) settle(ctx context.Context, settled func(serving bool)) {
	enough := time.NewTimer(settleFor)
	defer enough.Stop()
	select {
	case <-m.served:
		settled(true)
	case <-enough.C:
		settled(false)
	case <-ctx.Done():
	}
}

// newMember starts the daemon's node.
func (p *parts) newMember(cfg Config) (*member, error) {
	c := cluster.Config{
		Name:     cfg.Cluster.Name,
		Replicas: cfg.Cluster.Replicas,
		MaxBytes: max(logShare*int64(cfg.History.MaxBytes), minLog),
		Logger:   p.log,
	}
	if cfg.History.MaxAge > 0 {
		c.MaxAge = max(cfg.History.MaxAge, cfg.History.IdempotencyWindow) + logSlack
	}
	encryption, err := p.files.clusterTLS(cfg.Cluster)
	if err != nil {
		return nil, err
	}
	if cfg.Cluster.Mode == ClusterEmbedded {
		c.Embedded = &cluster.Embedded{
			Dir:       cfg.Cluster.Dir,
			Addr:      cfg.Cluster.Addr,
			Advertise: cfg.Cluster.Advertise,
			Peers:     cfg.Cluster.Peers,
			Secret:    cfg.Cluster.Secret,
			TLS:       encryption,
			Sync:      cfg.Cluster.Sync,
		}
	} else {
		c.External = &cluster.External{URL: cfg.Cluster.URL, CredentialsFile: cfg.Cluster.CredentialsFile, TLS: encryption}
	}
	node, err := cluster.Start(c, p.broker)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	directory := presence.New(presence.Config{
		Conn:      node.Conn(),
		Cluster:   cfg.Cluster.Name,
		Node:      node.Name(),
		Broker:    p.broker,
		Version:   p.opts.Version,
		StartedAt: time.Now(),
		Status:    node.Status,
		Logger:    p.log,
	})
	node.Estimate(directory.Recipients)
	return &member{node: node, directory: directory, served: make(chan struct{})}, nil
}

// run has the node take part in its cluster until ctx ends, and health say
// whether it does.
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
				m.serves.Do(func() { close(m.served) })
			}
		})
	})
	both.Go(func() error { return m.directory.Run(ctx, service) })
	return both.Wait()
}

// leave has health say that the daemon is not serving, whatever becomes of the
// node.
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
	if refused, ok := errors.AsType[*cluster.RemoveError](err); ok {
		return nil, &control.MembershipError{Unknown: errors.Is(err, cluster.ErrNoSuchMember), Reason: refused.Reason}
	}
	return left, err
}

// clusterTLS is for connections between nodes, or to NATS servers; nil for
// plain text.
//
// Nodes know each other by addresses, and a name may stand for many: so a
// certificate is good between them if the cluster's authority has signed it,
// whatever name it is for.
func (f *files) clusterTLS(cfg Cluster) (*tls.Config, error) {
	if cfg.TLS.CertFile == "" && cfg.TLS.CAFile == "" {
		return nil, nil //nolint:nilnil // as crypto/tls: no Config is no TLS
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS.CertFile != "" {
		pair, err := follow(f, func() (*tls.Certificate, error) {
			return readPair("cluster.tls", cfg.TLS.CertFile, cfg.TLS.KeyFile)
		}, cfg.TLS.CertFile, cfg.TLS.KeyFile)
		if err != nil {
			return nil, err
		}
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get(), nil }
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(), nil }
	}
	if cfg.TLS.CAFile == "" {
		return config, nil
	}
	authorities, err := follow(f, func() (*x509.CertPool, error) {
		return readAuthorities("cluster.tls.ca_file", cfg.TLS.CAFile)
	}, cfg.TLS.CAFile)
	if err != nil {
		return nil, err
	}
	if cfg.Mode != ClusterEmbedded {
		config.RootCAs = authorities.get()
		return config, nil
	}
	config.ClientAuth = tls.RequireAnyClientCert
	config.InsecureSkipVerify = true // VerifyConnection verifies all but the name
	config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, authorities.get()) }
	return config, nil
}

// verifyChain says whether an authority of pool has signed the other side's
// certificate.
func verifyChain(state tls.ConnectionState, pool *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the other node shows no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}
