package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

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
	log          *slog.Logger
	drainTimeout time.Duration
	tuneMemory   bool
	demo         bool

	broker  *broker.Broker
	streams *ssehttp.Handler
	control *control.Service
	slots   *slots
	access  access
	floods  *floods

	browsers net.Listener

	sse  *httpServer
	grpc *grpc.Server
	rest *httpServer
}

// build makes the parts, whose close must be called.
func build(cfg Config, opts Options, bound listeners, descriptors budget, log *slog.Logger) (_ *parts, err error) {
	browserTLS, err := serverTLS("sse.tls", cfg.SSE.TLS.CertFile, cfg.SSE.TLS.KeyFile, log)
	if err != nil {
		return nil, err
	}
	callerTLS, err := controlTLS(cfg.GRPC.TLS, log)
	if err != nil {
		return nil, err
	}
	if opts.Demo && cfg.Auth.JWT.HMACSecret == "" {
		cfg.Auth.JWT.HMACSecret = demoSecret()
	}
	p := &parts{
		log:          log,
		drainTimeout: cfg.Drain.Timeout,
		demo:         opts.Demo,
		broker:       newBroker(cfg),
		slots:        newSlots(descriptors.streams + descriptors.passing),
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.access, err = newAccess(cfg.Auth, log); err != nil {
		return nil, err
	}
	if p.streams, err = newStreams(cfg, p.broker, p.access, descriptors.streams, log); err != nil {
		return nil, err
	}
	var browsers http.Handler = p.streams
	if opts.Demo {
		if browsers, err = demoPage(cfg, p.access.tokens, bound.addresses().REST, p.streams); err != nil {
			return nil, err
		}
	}
	trusted, _ := prefixes(cfg.SSE.TrustedProxies) // they were checked
	p.floods = newFloods(trusted)
	p.sse = newHTTPServer(p.floods.guard(browsers), browserTLS, log)
	p.sse.ConnContext, p.sse.closed = p.floods.watch, p.floods.closed
	p.tuneMemory = opts.TuneMemory
	p.browsers = newSlotListener(bound.sse, p.slots)
	if cfg.SSE.ProxyProtocol {
		p.browsers = &proxyListener{p.browsers, trusted}
	}
	p.control = newControl(cfg, opts, p.broker, p.access, descriptors.streams, p.slots.inUse, log)
	p.grpc = newGRPCServer(p.control, callerTLS)
	metrics, err := metricsHandler(opts.Registry, log, newFigures(sources{
		broker:         p.broker,
		streams:        p.streams,
		refused:        p.refused,
		maxConnections: func() int64 { return int64(descriptors.streams) },
		descriptors:    p.slots.inUse,
		keyReads:       p.access.keyReads,
		version:        opts.Version,
	}), p.control.Metrics())
	if err != nil {
		return nil, err
	}
	rest, err := p.control.RESTHandler()
	if err != nil {
		return nil, fmt.Errorf("rest: %w", err)
	}
	withPage, err := withConsole(cfg, bound.addresses().SSE, withMetrics(metrics, rest))
	if err != nil {
		return nil, err
	}
	p.rest = newHTTPServer(withPage, nil, log)
	return p, nil
}

// close ends what runs from its making on. The servers must have ended.
func (p *parts) close() {
	p.broker.Close()
	if p.streams != nil {
		if err := p.streams.Close(); err != nil {
			p.log.Warn("streams did not end well", "error", err)
		}
	}
	if p.control != nil {
		p.control.Close()
	}
	p.access.close()
}

// refused is how many requests of browsers were refused, by cause.
func (p *parts) refused() map[string]int64 {
	found := p.streams.Refused()
	found["max_requests_per_connection"] = p.floods.cut.Load()
	found["no_request"] = p.floods.mute.Load()
	return found
}

func newBroker(cfg Config) *broker.Broker {
	shards := cfg.Broker.Shards
	if shards == 0 {
		shards = min(runtime.GOMAXPROCS(0), MaxShards)
	}
	return broker.New(broker.Config{
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
	})
}

func newStreams(cfg Config, b *broker.Broker, who access, maxStreams int, log *slog.Logger) (*ssehttp.Handler, error) {
	trusted, _ := prefixes(cfg.SSE.TrustedProxies) // they were checked
	engine := ssehttp.Engine(cfg.SSE.Engine)
	if cfg.SSE.Engine == EngineAuto {
		engine = ssehttp.Auto
	}
	return ssehttp.New(ssehttp.Config{
		Engine:                   engine,
		Path:                     cfg.SSE.Path,
		Cookie:                   cfg.Auth.Cookie,
		Anonymous:                cfg.Auth.Anonymous,
		AnonymousTopics:          cfg.Auth.AnonymousTopics,
		AllowedOrigins:           cfg.SSE.AllowedOrigins,
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
	}, b, who.verifier())
}

func newControl(cfg Config, opts Options, b *broker.Broker, who access, maxStreams int, descriptors func() (used, allowed int), log *slog.Logger) *control.Service {
	callers := make([]control.Token, 0, len(cfg.Control.Tokens))
	for _, t := range cfg.Control.Tokens {
		callers = append(callers, control.Token{Name: t.Name, Token: t.Token, Scopes: t.Scopes})
	}
	return control.New(control.Config{
		Tokens:         callers,
		Insecure:       cfg.Control.Insecure,
		RateLimit:      cfg.Control.RateLimit,
		Version:        opts.Version,
		MaxConnections: maxStreams,
		Descriptors:    descriptors,
		Tracer:         opts.Tracer,
		Logger:         log,
	}, b, who.minter())
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

// withMetrics is no [http.ServeMux], which would clean paths: rest needs them
// as they came.
func withMetrics(metrics, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			metrics.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}
