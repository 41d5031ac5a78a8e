package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/jsclient"
	"github.com/peald/peald/internal/listen"
	"github.com/peald/peald/ssehttp"
)

// build creates the parts in dependency order. It doesn't start any servers. The caller
// must close the result.
func build(cfg Config, opts Options, s sockets, descriptors listen.Budget, log *slog.Logger) (_ *parts, err error) {
	p := &parts{
		log:     log,
		opts:    opts,
		sockets: s,
		drain:   make(chan struct{}),
		cfg:     cfg,
		files:   files{log: log},
		reloads: newReloads(),
	}
	p.maxStreams.Store(int64(descriptors.Streams))
	if opts.Demo && cfg.Auth.JWT.HMACSecret == "" {
		p.demoSecret = generateDemoSecret()
		p.cfg.Auth.JWT.HMACSecret = p.demoSecret
	}

	defer func() {
		if err != nil {
			p.close()
		}
	}()

	certificates, err := p.files.load(cfg)
	if err != nil {
		return nil, err
	}

	p.buildBroker()
	if err := p.buildAuth(); err != nil {
		return nil, err
	}
	if err := p.buildMember(certificates.cluster); err != nil {
		return nil, err
	}
	if err := p.buildStreams(); err != nil {
		return nil, err
	}
	if err := p.buildSSE(certificates.sse, descriptors); err != nil {
		return nil, err
	}
	p.buildHooks()
	p.buildSources()
	p.buildControl()
	p.buildGRPC(certificates.grpc)
	if err := p.buildREST(); err != nil {
		return nil, err
	}

	return p, nil
}

func (p *parts) buildBroker() {
	p.broker = broker.New(brokerConfig(p.cfg))
	p.publisher = p.broker
	p.onClose(p.broker.Close)
}

func (p *parts) buildAuth() error {
	auth, err := newAuthenticator(p.cfg.Auth, p.log)
	p.auth.Store(&auth)
	p.onClose(func() { p.auth.Load().close() }) // A reload replaces it.

	return err
}

func (p *parts) buildMember(tlsConfig *tls.Config) (err error) {
	if p.cfg.Cluster.Mode == ClusterOff {
		return nil
	}

	p.member, err = newMember(p.cfg, tlsConfig, p.broker, p.opts.Version, p.log)
	if err != nil {
		return err
	}
	p.publisher = clusterBroker{p.broker, p.member.node}
	p.onClose(p.member.node.Close)

	return nil
}

func (p *parts) buildStreams() (err error) {
	auth := p.auth.Load()
	cfg := streamsConfig(p.cfg, *auth, int(p.maxStreams.Load()), p.log)
	if p.member != nil {
		cfg.Elsewhere = p.member.directory.Elsewhere
	}

	p.streams, err = ssehttp.New(cfg, p.broker, auth.verifier())
	if err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	p.onClose(func() {
		if err := p.streams.Close(); err != nil {
			p.log.Warn("streams not closed", "error", err)
		}
	})

	return nil
}

func (p *parts) buildControl() {
	cfg := p.controlConfig(p.cfg, int(p.maxStreams.Load()))
	cfg.Hooks = controlHooks{p.hooks}
	cfg.Sources = p.sourceStatuses
	if p.member != nil {
		cfg.Cluster, cfg.Membership = p.member.directory, p.member
	}

	p.control = control.New(cfg, p.publisher, p.auth.Load().minter())
	p.onClose(p.control.Close)
}

func brokerConfig(cfg Config) broker.Config {
	shards := cfg.Broker.Shards
	if shards == 0 {
		shards = min(runtime.GOMAXPROCS(0), MaxShards)
	}

	return broker.Config{
		Shards:       shards,
		QueueBytes:   int(cfg.Broker.QueueBytes),
		SlowConsumer: broker.SlowPolicy(cfg.Broker.SlowConsumer),
		Heartbeat:    cfg.SSE.Heartbeat,
		Retry:        cfg.SSE.Retry,
		WriteTimeout: cfg.SSE.WriteTimeout,
		MaxAge:       cfg.SSE.MaxAge,
		History: broker.History{
			MaxEvents: cfg.History.MaxEvents,
			MaxBytes:  int(cfg.History.MaxBytes),
			MaxAge:    cfg.History.MaxAge,
		},
		Retain:            broker.Retain{MaxEvents: cfg.Retain.MaxEvents, MaxBytes: int(cfg.Retain.MaxBytes)},
		Topics:            brokerPolicies(cfg.Topics),
		IdempotencyWindow: cfg.History.IdempotencyWindow,
		Replica:           cfg.Cluster.Mode != ClusterOff,
	}
}

func streamsConfig(cfg Config, auth authenticator, maxStreams int, log *slog.Logger) ssehttp.Config {
	var module *ssehttp.Module
	if cfg.SSE.Client {
		module = ssehttp.NewModule(jsclient.Module())
	}

	trusted, _ := prefixes(cfg.SSE.TrustedProxies) // Validate has already checked them.
	engine := ssehttp.Engine(cfg.SSE.Engine)
	if cfg.SSE.Engine == EngineAuto {
		engine = ssehttp.Auto
	}

	return ssehttp.Config{
		Engine:                   engine,
		Path:                     cfg.SSE.Path,
		Cookie:                   cfg.Auth.Cookie,
		Anonymous:                cfg.Auth.Anonymous,
		AnonymousTopics:          cfg.Auth.AnonymousTopics,
		TopicRules:               anonymousRules(cfg.Topics),
		AllowedOrigins:           cfg.SSE.AllowedOrigins,
		AllowedHeaders:           cfg.SSE.AllowedHeaders,
		MaxConnections:           maxStreams,
		QueryToken:               cfg.Auth.QueryToken,
		Application:              auth.application(),
		MaxConnectionsPerUser:    cfg.SSE.MaxConnectionsPerUser,
		MaxConnectionsPerAddress: cfg.SSE.MaxConnectionsPerIP,
		MaxConnectsPerSecond:     cfg.SSE.MaxConnectsPerSecond,
		TrustedProxies:           trusted,
		ProxyHeader:              cfg.SSE.ProxyHeader,
		Retry:                    cfg.SSE.Retry,
		WriteTimeout:             cfg.SSE.WriteTimeout,
		Compression:              cfg.SSE.Compression == CompressionAuto,
		Module:                   module,
		Logger:                   log,
	}
}

func (p *parts) controlConfig(cfg Config, maxStreams int) control.Config {
	tokens := make([]control.Token, 0, len(cfg.Control.Tokens))
	for _, t := range cfg.Control.Tokens {
		tokens = append(tokens, control.Token{Name: t.Name, Token: t.Token, Scopes: t.Scopes})
	}

	return control.Config{
		Tokens:         tokens,
		Insecure:       cfg.Control.Insecure,
		RateLimit:      cfg.Control.RateLimit,
		TopicPolicies:  controlPolicies(cfg.Topics),
		Version:        p.opts.Version,
		MaxConnections: maxStreams,
		Descriptors:    p.browsers.Descriptors,
		Drain:          p.requestDrain,
		Unready:        p.unready,
		Tracer:         p.opts.Tracer,
		Logger:         p.log,
	}
}
