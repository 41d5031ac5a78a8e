package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/trace"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// parts are what a daemon consists of, wired together and not yet serving.
type parts struct {
	log        *slog.Logger
	tuneMemory bool
	demo       bool
	opts       Options
	told       chan struct{} // closed by tell
	restLeft   atomic.Bool   // callers of REST are to connect anew
	tell       func()        // has the daemon end
	ending     atomic.Bool   // it does

	broker  *broker.Broker
	member  *member        // nil where the daemon is of no cluster
	publish control.Broker // the broker, or the cluster's node
	streams *ssehttp.Handler
	control *control.Service
	slots   *slots
	access  atomic.Pointer[access]
	floods  *floods

	recorder *trace.FlightRecorder // nil where nothing is recorded

	// What follows belongs to whoever builds, changes and ends the parts, one
	// after the other.

	cfg        Config // what they run on
	madeSecret string // cfg's auth.jwt.hmac_secret, where the demo has made it up
	files      files
	logLevel   *slog.LevelVar // may be nil
	reloads    *reloads
	bound      listeners

	proxies    proxyListener
	page       atomic.Pointer[http.Handler] // the demo's
	maxStreams atomic.Int64

	sse  *httpServer
	grpc *grpc.Server
	rest *httpServer
}

// build makes the parts, whose close must be called.
func build(cfg Config, opts Options, bound listeners, descriptors budget, log *slog.Logger) (_ *parts, err error) {
	p := &parts{
		log:        log,
		tuneMemory: opts.TuneMemory,
		demo:       opts.Demo,
		opts:       opts,
		files:      files{log: log},
		logLevel:   opts.LogLevel,
		bound:      bound,
		told:       make(chan struct{}),
	}
	p.tell = sync.OnceFunc(func() { close(p.told) })
	browserTLS, err := p.files.serverTLS("sse.tls", cfg.SSE.TLS.CertFile, cfg.SSE.TLS.KeyFile)
	if err != nil {
		return nil, err
	}
	callerTLS, err := p.files.controlTLS(cfg.GRPC.TLS)
	if err != nil {
		return nil, err
	}
	if opts.Demo && cfg.Auth.JWT.HMACSecret == "" {
		p.madeSecret = demoSecret()
		cfg.Auth.JWT.HMACSecret = p.madeSecret
	}
	p.cfg = cfg
	p.broker = broker.New(brokerConfig(cfg))
	p.slots = newSlots(descriptors.streams + descriptors.passing)
	p.maxStreams.Store(int64(descriptors.streams))
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	who, err := newAccess(cfg.Auth, log)
	p.access.Store(&who)
	if err != nil {
		return nil, err
	}
	p.publish = p.broker
	if cfg.Cluster.Mode != ClusterOff {
		if p.member, err = p.newMember(cfg); err != nil {
			return nil, err
		}
		p.publish = clusterBroker{p.broker, p.member.node}
	}
	streams := streamsConfig(cfg, who, descriptors.streams, log)
	if p.member != nil {
		streams.Elsewhere = p.member.directory.Elsewhere
	}
	if p.streams, err = ssehttp.New(streams, p.broker, who.verifier()); err != nil {
		return nil, fmt.Errorf("streams: %w", err)
	}
	var browsers http.Handler = p.streams
	if opts.Demo {
		page, err := demoPage(cfg, who.tokens, p.publish, bound.addresses().REST, p.streams)
		if err != nil {
			return nil, err
		}
		p.page.Store(&page)
		browsers = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*p.page.Load()).ServeHTTP(w, r) })
	}
	p.floods = newFloods(log)
	p.sse = newHTTPServer(p.floods.guard(browsers), browserTLS, log)
	p.sse.ConnContext, p.sse.closed = p.floods.watch, p.floods.closed
	p.proxies.Listener = newSlotListener(bound.browsers, p.slots)
	p.trust(cfg.SSE)
	calls := p.controlConfig(cfg, descriptors.streams)
	if p.member != nil {
		calls.Cluster, calls.Membership = p.member.directory, p.member
	}
	p.control = control.New(calls, p.publish, who.minter())
	p.grpc = newGRPCServer(p.control, callerTLS)
	p.reloads = newReloads()
	measured := []prometheus.Collector{newFigures(sources{
		broker:         p.broker,
		streams:        p.streams,
		refused:        p.refused,
		maxConnections: p.maxStreams.Load,
		descriptors:    p.slots.inUse,
		keyReads:       func() (good, failed int64) { return p.access.Load().keyReads() },
		lostLines:      opts.LostLines,
		version:        opts.Version,
	}), p.control.Metrics(), p.reloads}
	if p.member != nil {
		measured = append(measured, p.member.node, p.member.directory)
	}
	metrics, err := metricsHandler(opts.Registry, log, measured...)
	if err != nil {
		return nil, err
	}
	rest, err := p.control.RESTHandler()
	if err != nil {
		return nil, fmt.Errorf("rest: %w", err)
	}
	if cfg.Control.GuardMetrics {
		metrics = p.control.GuardMetrics(metrics)
	}
	if cfg.Debug.FlightRecorder {
		if p.recorder, err = newFlightRecorder(); err != nil {
			return nil, err
		}
	}
	beside := restPaths{metrics: metrics, debug: p.control.GuardDebug(debugPages(p.recorder)), rest: rest}
	withPage, err := withConsole(cfg, bound.addresses().SSE, beside)
	if err != nil {
		return nil, err
	}
	p.rest = newHTTPServer(p.untilLeft(withPage), nil, log)
	return p, nil
}

// close ends what runs from its making on. The servers must have ended.
func (p *parts) close() {
	p.broker.Close()
	if p.member != nil {
		p.member.node.Close()
	}
	if p.streams != nil {
		if err := p.streams.Close(); err != nil {
			p.log.Warn("streams did not end well", "error", err)
		}
	}
	if p.control != nil {
		p.control.Close()
	}
	p.access.Load().close()
	if p.recorder != nil {
		p.recorder.Stop()
	}
}

// refused is how many requests of browsers were refused, by cause.
func (p *parts) refused() map[string]int64 {
	found := p.streams.Rejected()
	found[tooManyRequests] = p.floods.cut.Load()
	found[noRequest] = p.floods.mute.Load()
	return found
}

// unready is why the daemon is not serving while it is not.
func (p *parts) unready() string {
	if p.ending.Load() {
		return "draining"
	}
	if p.member != nil {
		if _, reason := p.member.node.Serving(); reason != "" {
			return reason
		}
	}
	return "starting"
}

// trust says which proxies are believed.
func (p *parts) trust(cfg SSE) {
	trusted, _ := prefixes(cfg.TrustedProxies) // they were checked
	p.floods.trusted.set(trusted)
	if !cfg.ProxyProtocol {
		trusted = nil
	}
	p.proxies.speakers.set(trusted)
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
		History: broker.History{
			MaxEvents: cfg.History.MaxEvents,
			MaxBytes:  int(cfg.History.MaxBytes),
			MaxAge:    cfg.History.MaxAge,
		},
		IdempotencyWindow: cfg.History.IdempotencyWindow,
		Replica:           cfg.Cluster.Mode != ClusterOff,
	}
}

func streamsConfig(cfg Config, who access, maxStreams int, log *slog.Logger) ssehttp.Config {
	trusted, _ := prefixes(cfg.SSE.TrustedProxies) // they were checked
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
		AllowedOrigins:           cfg.SSE.AllowedOrigins,
		AllowedHeaders:           cfg.SSE.AllowedHeaders,
		MaxConnections:           maxStreams,
		QueryToken:               cfg.Auth.QueryToken,
		Application:              who.application(),
		MaxConnectionsPerUser:    cfg.SSE.MaxConnectionsPerUser,
		MaxConnectionsPerAddress: cfg.SSE.MaxConnectionsPerIP,
		MaxConnectsPerSecond:     cfg.SSE.MaxConnectsPerSecond,
		TrustedProxies:           trusted,
		ProxyHeader:              cfg.SSE.ProxyHeader,
		Retry:                    cfg.SSE.Retry,
		WriteTimeout:             cfg.SSE.WriteTimeout,
		Logger:                   log,
	}
}

func (p *parts) controlConfig(cfg Config, maxStreams int) control.Config {
	callers := make([]control.Token, 0, len(cfg.Control.Tokens))
	for _, t := range cfg.Control.Tokens {
		callers = append(callers, control.Token{Name: t.Name, Token: t.Token, Scopes: t.Scopes})
	}
	return control.Config{
		Tokens:         callers,
		Insecure:       cfg.Control.Insecure,
		RateLimit:      cfg.Control.RateLimit,
		Version:        p.opts.Version,
		MaxConnections: maxStreams,
		Descriptors:    p.slots.inUse,
		Drain:          p.tell,
		Unready:        p.unready,
		Tracer:         p.opts.Tracer,
		Logger:         p.log,
	}
}

func newGRPCServer(service *control.Service, tlsConfig *tls.Config) *grpc.Server {
	if tlsConfig == nil {
		return service.GRPCServer()
	}
	return service.GRPCServer(grpc.Creds(credentials.NewTLS(tlsConfig)))
}

// metricsHandler registers what the daemon measures, and shows registry.
func metricsHandler(registry *prometheus.Registry, log *slog.Logger, parts ...prometheus.Collector) (http.Handler, error) {
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	for _, c := range append(parts,
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsScheduler)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	) {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}), nil
}

// restPaths are what the REST listener has beside calls. It is no
// [http.ServeMux], which would clean paths: rest needs them as they came.
type restPaths struct{ metrics, debug, rest http.Handler }

// ServeHTTP implements [http.Handler].
func (p restPaths) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/metrics" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		p.metrics.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, "/debug/"):
		p.debug.ServeHTTP(w, r)
	default:
		p.rest.ServeHTTP(w, r)
	}
}
