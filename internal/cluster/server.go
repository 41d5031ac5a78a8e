package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// embeddedServer is the NATS server in this process.
type embeddedServer struct {
	*server.Server

	cfg        Embedded
	options    *server.Options
	log        *slog.Logger
	standalone bool
	routes     []string   // the addresses of other nodes, as HOST:PORT
	fatal      chan error // receives a fatal error from the server, if there is one
	stopped    sync.Once
	rejections rejections // of connections between nodes
}

const (
	// systemUser is the user name for the system account of the node's own server. The
	// server accepts client connections only from this process.
	systemUser = "system"
	// routeUser is the user name with which nodes connect to each other. The secret is
	// the password.
	routeUser = "peald"
	// noSecret is the password if there is no secret. It only prevents accidents.
	noSecret = "no secret"
	// bootTimeout limits how long a server may take to recover its files.
	bootTimeout = time.Minute
	// handOverTimeout limits how long a node waits for another node to become leader in
	// its place.
	handOverTimeout = 2 * time.Second
)

// inProcessAuth assigns accounts to connections from this process. It implements
// [server.Authentication].
type inProcessAuth struct{ server *embeddedServer }

// Check implements [server.Authentication].
func (a inProcessAuth) Check(c server.ClientAuthentication) bool {
	account := a.server.GlobalAccount()
	if c.GetOpts().Username == systemUser {
		account = a.server.SystemAccount()
	}
	c.RegisterUser(&server.User{Account: account})
	return true
}

// startServer starts the server of the node called name.
func startServer(cluster, name string, cfg Embedded, storage *storage, log *slog.Logger) (_ *embeddedServer, err error) {
	s := &embeddedServer{cfg: cfg, log: log, standalone: len(cfg.Peers) == 0, fatal: make(chan error, 1)}
	options := &server.Options{
		ServerName:            name,
		DontListen:            true, // all clients are in this process
		NoSigs:                true,
		JetStream:             true,
		StoreDir:              filepath.Join(cfg.Dir, "alone"),
		JetStreamMaxStore:     1 << 50, // the streams have their own limits
		JetStreamMaxMemory:    1 << 30,
		SyncAlways:            cfg.Sync,
		MaxPayload:            maxPayload,
		ConnectErrorReports:   reportInterval,
		ReconnectErrorReports: reportInterval,
	}

	if !s.standalone {
		// A standalone node uses a different store. In a cluster, JetStream would
		// delete the streams in that store, because they don't belong to the cluster.
		options.StoreDir = filepath.Join(cfg.Dir, "cluster")
		if err := s.joinCluster(cluster, options); err != nil {
			return nil, err
		}
		if err := setDamagedAside(options.StoreDir, name, log); err != nil {
			return nil, err
		}
	}

	options.CustomClientAuthentication = inProcessAuth{s}
	s.options = options.Clone()
	if s.Server, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("configuring the NATS server: %w", err)
	}
	s.SetLoggerV2(&serverLog{log: log.With("part", "nats-server"), fatal: s.fatal, rejections: &s.rejections, storage: storage, encrypted: cfg.TLS != nil}, false, false, false)
	s.Start()
	defer func() {
		if err != nil {
			s.stop()
		}
	}()

	select {
	case err := <-s.fatal:
		// At this point, no goroutine of the server is waiting for routing to start.
		return nil, fmt.Errorf("%w; its files are in %s, and the node starts over if you remove them", err, filepath.Join(options.StoreDir, "jetstream"))
	default:
	}

	if !s.standalone {
		// A server that doesn't listen for clients never starts routing by itself,
		// because routing waits for the client port.
		ready := make(chan struct{})
		close(ready)
		s.StartRouting(ready)
	}

	select {
	case err := <-s.fatal:
		return nil, fmt.Errorf("%w (in %s)", err, options.StoreDir)
	default:
	}

	if !s.ReadyForConnections(bootTimeout) {
		return nil, fmt.Errorf("the NATS server isn't ready after %s", bootTimeout)
	}
	return s, nil
}

// joinCluster sets the options for connections between nodes.
func (s *embeddedServer) joinCluster(cluster string, options *server.Options) error {
	host, port, err := net.SplitHostPort(s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("cluster.addr: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("cluster.addr: %w", err)
	}
	if number == 0 {
		number = server.RANDOM_PORT
	}

	options.Cluster = server.ClusterOpts{
		Name:      cluster,
		Host:      host,
		Port:      number,
		Advertise: s.cfg.Advertise,
		PoolSize:  -1, // one connection per node is enough for one stream
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

// password returns the password that other nodes must present. Only the node that
// accepts a connection checks the password. Without one, nodes that have a secret could
// join this node by connecting to it.
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

// followPeers resolves the names of peers at intervals, and makes the server connect to
// new addresses, until ctx is done.
func (s *embeddedServer) followPeers(ctx context.Context) {
	if s.standalone || !slices.ContainsFunc(s.cfg.Peers, isName) {
		return
	}
	tick := time.NewTicker(resolveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		found := resolve(ctx, s.cfg.Resolver, s.cfg.Peers, s.log)
		if slices.Equal(found, s.routes) || ctx.Err() != nil {
			continue
		}
		options := s.options.Clone()
		options.Routes = s.routeURLs(found)
		if err := s.ReloadOptions(options); err != nil {
			s.log.Warn("cannot use new peer addresses", "addresses", found, "error", err)
			continue
		}
		s.log.Info("peer addresses changed", "addresses", found)
		s.routes = found
	}
}

// members returns the names of the cluster's members, whether or not they are running,
// by their NATS ids. It returns nil on a standalone node, and while JetStream isn't
// running.
func (s *embeddedServer) members() map[string]string {
	if s.standalone {
		return nil
	}
	info, err := s.Jsz(nil)
	if err != nil || info.Meta == nil {
		return nil
	}
	names := map[string]string{"": s.Name()}
	for _, p := range info.Meta.Replicas {
		names[p.Peer] = memberName(p)
	}
	return names
}

// memberName returns the name of a member. If the member hasn't run since the server
// started, the server doesn't know its name, and memberName returns its id.
func memberName(p *server.PeerInfo) string {
	if strings.ContainsAny(p.Name, " ") { // the server's placeholder for an unknown name
		return p.Peer
	}
	return p.Name
}

// replicas returns the number of replicas that the cluster has enough nodes for, up to
// the default number. In a cluster, it fails on all nodes but the leader.
func (s *embeddedServer) replicas() (int, error) {
	if s.standalone {
		return 1, nil
	}
	nodes := len(s.JetStreamClusterPeers())
	switch {
	case nodes == 0:
		return 0, errors.New("this node doesn't lead the cluster")
	case nodes < defaultReplicas:
		return 1, nil
	}
	return defaultReplicas, nil
}

// handOver makes another node the leader of the stream if this node leads it.
func (s *embeddedServer) handOver(stream string) {
	if s.standalone {
		return
	}
	leads := s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream)
	if leads {
		if err := s.JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, stream); err != nil {
			s.log.Warn("cannot hand over leadership of the event log", "error", err)
			return
		}
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.After(handOverTimeout); leads; {
		select {
		case <-poll.C:
			leads = s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream)
		case <-deadline:
			s.log.Warn("no other node became leader of the event log", "waited", handOverTimeout.String())
			return
		}
	}
}

// startJetStream starts JetStream again on a standalone node after ShutdownJetStream.
// JetStream then recovers the event log from disk. Connections stay open.
func (s *embeddedServer) startJetStream() error {
	// A reload starts JetStream if it is configured but not running.
	if err := s.ReloadOptions(s.options.Clone()); err != nil {
		return fmt.Errorf("starting JetStream: %w", err)
	}
	if !s.JetStreamEnabled() {
		return errors.New("JetStream did not start")
	}
	return nil
}

// stop shuts the server down and waits until it has stopped.
func (s *embeddedServer) stop() {
	s.stopped.Do(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
}
