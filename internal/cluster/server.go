package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// embeddedServer is the NATS server inside a daemon.
type embeddedServer struct {
	*server.Server

	cfg     Embedded
	options *server.Options
	log     *slog.Logger
	alone   bool
	routes  []string   // HOST:PORT that other nodes are looked for at
	fatal   chan error // why the server can't go on; has room for one
	stopped sync.Once

	refusals refusals
}

const (
	// routeUser is who nodes are to each other, with the secret as password.
	routeUser = "peald"
	// noSecret is the password where there is no secret. It keeps nobody out
	// who means to get in.
	noSecret = "no secret"
	// bootFor is how long a server may take to read what it has on disk.
	bootFor = time.Minute
	// handOverFor is how long a node waits for others to take over what it
	// leads.
	handOverFor = 2 * time.Second
)

// startServer starts the node called name of a cluster.
func startServer(cluster, name string, cfg Embedded, storage *storage, log *slog.Logger) (_ *embeddedServer, err error) {
	s := &embeddedServer{cfg: cfg, log: log, alone: len(cfg.Peers) == 0, fatal: make(chan error, 1)}
	options := &server.Options{
		ServerName:            name,
		DontListen:            true, // its one client is in this process
		NoSigs:                true,
		JetStream:             true,
		StoreDir:              filepath.Join(cfg.Dir, "alone"),
		JetStreamMaxStore:     1 << 50, // the stream is bounded
		JetStreamMaxMemory:    1 << 30,
		SyncAlways:            cfg.Sync,
		MaxPayload:            maxPayload,
		ConnectErrorReports:   reportEvery,
		ReconnectErrorReports: reportEvery,
	}
	if !s.alone {
		// What a node alone has is of no cluster, and a cluster's JetStream
		// deletes what is not the cluster's.
		options.StoreDir = filepath.Join(cfg.Dir, "cluster")
		if err := s.joinCluster(cluster, options); err != nil {
			return nil, err
		}
		if err := setDamagedAside(options.StoreDir, log); err != nil {
			return nil, err
		}
	}
	options.CustomClientAuthentication = inside{s}
	s.options = options.Clone()
	if s.Server, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("preparing the NATS server: %w", err)
	}
	s.SetLoggerV2(&serverLog{log: log.With("part", "nats-server"), fatal: s.fatal, refusals: &s.refusals, storage: storage}, false, false, false)
	s.Start()
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	select {
	case err := <-s.fatal:
		// No goroutine of the server's waits for routing to start.
		return nil, fmt.Errorf("%w; its files are in %s, without which the node starts anew", err, filepath.Join(options.StoreDir, "jetstream"))
	default:
	}
	if !s.alone {
		// A server that listens to no clients never gets as far as routes by
		// itself: they wait for the clients' port to be known.
		known := make(chan struct{})
		close(known)
		s.StartRouting(known)
	}
	select {
	case err := <-s.fatal:
		return nil, fmt.Errorf("%w (in %s)", err, options.StoreDir)
	default:
	}
	if !s.ReadyForConnections(bootFor) {
		return nil, fmt.Errorf("the NATS server is not ready after %s", bootFor)
	}
	return s, nil
}

// joinCluster sets how other nodes are found, and find this one.
func (s *embeddedServer) joinCluster(cluster string, options *server.Options) error {
	host, port, err := net.SplitHostPort(s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("the address for other nodes: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("the address for other nodes: %w", err)
	}
	if number == 0 {
		number = server.RANDOM_PORT
	}
	options.Cluster = server.ClusterOpts{
		Name:      cluster,
		Host:      host,
		Port:      number,
		Advertise: s.cfg.Advertise,
		PoolSize:  -1, // one connection to each node carries a stream's worth
		TLSConfig: s.cfg.TLS,
	}
	if s.cfg.TLS != nil {
		options.Cluster.TLSTimeout = 5
	}
	options.Cluster.Username, options.Cluster.Password = routeUser, s.password()
	s.routes = resolve(context.Background(), s.cfg.Resolver, s.cfg.Peers, s.log)
	options.Routes = s.routeURLs(s.routes)
	return nil
}

// password is what other nodes have to say. It is who accepts a connection that
// asks: a node that asks for none would be joined by those that have a secret,
// as soon as they look for it.
func (s *embeddedServer) password() string {
	if s.cfg.Secret == "" {
		return noSecret
	}
	return s.cfg.Secret
}

func (s *embeddedServer) routeURLs(addrs []string) []*url.URL {
	urls := make([]*url.URL, 0, len(addrs))
	for _, addr := range addrs {
		urls = append(urls, &url.URL{Scheme: "nats-route", Host: addr, User: url.UserPassword(routeUser, s.password())})
	}
	return urls
}

// replicas is how many nodes can hold the stream, at most as many as there are
// to be by default. Only the node that leads the cluster knows.
func (s *embeddedServer) replicas() (int, error) {
	if s.alone {
		return 1, nil
	}
	nodes := len(s.JetStreamClusterPeers())
	switch {
	case nodes == 0:
		return 0, errors.New("another node leads the cluster, or none yet")
	case nodes < defaultReplicas:
		return 1, nil
	}
	return defaultReplicas, nil
}

// handOver has other nodes lead what this one leads.
func (s *embeddedServer) handOver(stream string) {
	if s.alone {
		return
	}
	led := s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream)
	if led {
		if err := s.JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, stream); err != nil {
			s.log.Warn("the log's lead could not be handed over", "error", err)
			return
		}
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for deadline := time.After(handOverFor); led; {
		select {
		case <-again.C:
			led = s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream)
		case <-deadline:
			s.log.Warn("no other node takes over the log's lead", "waited", handOverFor.String())
			return
		}
	}
}

// startJetStream has the JetStream of a node alone recover what is on disk, after
// ShutdownJetStream. Connections stay.
func (s *embeddedServer) startJetStream() error {
	// A reload starts what should run and doesn't.
	if err := s.ReloadOptions(s.options.Clone()); err != nil {
		return fmt.Errorf("starting JetStream: %w", err)
	}
	if !s.JetStreamEnabled() {
		return errors.New("JetStream doesn't start")
	}
	return nil
}

// stop ends the server, and waits for it.
func (s *embeddedServer) stop() {
	s.stopped.Do(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
}
