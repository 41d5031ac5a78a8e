package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/peald/peald/internal/listen"
	"github.com/peald/peald/ssehttp"
)

// buildSSE builds the server for the listener that browsers connect to.
func (p *parts) buildSSE(tlsConfig *tls.Config, descriptors listen.Budget) error {
	var handler http.Handler = p.streams
	if p.opts.Demo {
		page, err := newDemoPage(p.cfg, p.auth.Load().tokens, p.publisher, p.sockets.rest.Address(), p.streams)
		if err != nil {
			return err
		}
		p.demoPage.Store(&page)
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*p.demoPage.Load()).ServeHTTP(w, r) })
	}

	p.browsers = listen.NewBrowsers(p.sockets.sse, descriptors.Connections(), p.log)
	p.setTrustedProxies(p.cfg.SSE)
	p.browsers.Intercept(func(l net.Listener) net.Listener { return p.serveStreams(l, tlsConfig, handler) })
	p.sse = p.browsers.NewServer(handler, tlsConfig)

	return nil
}

// serveStreams serves streams on the connections of l. It returns a listener for
// connections that request anything else.
func (p *parts) serveStreams(l net.Listener, tlsConfig *tls.Config, other http.Handler) net.Listener {
	if tlsConfig != nil {
		tlsConfig = tlsConfig.Clone()
		tlsConfig.NextProtos = listen.Protocols()
	}
	return p.streams.Listen(l, ssehttp.ListenConfig{
		TLS:           tlsConfig,
		HeaderTimeout: listen.HeaderTimeout,
		IdleTimeout:   listen.IdleTimeout,
		MaxHeader:     listen.MaxHeader,
		Other:         listen.LimitBody(other),
		Guard:         p.browsers,
	})
}

// setTrustedProxies replaces the set of proxies that are trusted to report their
// clients' addresses.
func (p *parts) setTrustedProxies(cfg SSE) {
	trusted, _ := prefixes(cfg.TrustedProxies) // Validate has already checked them.
	p.browsers.Trust(trusted, cfg.ProxyProtocol)
}

// buildGRPC builds the control plane's gRPC server. If tlsConfig is nil, the server
// uses plain text.
func (p *parts) buildGRPC(tlsConfig *tls.Config) {
	p.calls = listen.Track(p.sockets.grpc)

	if tlsConfig == nil {
		p.grpc = p.control.GRPCServer()
		return
	}
	p.grpc = p.control.GRPCServer(grpc.Creds(credentials.NewTLS(tlsConfig)))
}

// buildREST builds the server for the listener that serves REST, metrics, the
// console and debug pages.
func (p *parts) buildREST() error {
	metrics, err := p.metricsHandler()
	if err != nil {
		return err
	}

	if p.cfg.Debug.FlightRecorder {
		if p.recorder, err = newFlightRecorder(); err != nil {
			return err
		}
		p.onClose(p.recorder.Stop)
	}

	calls, err := p.control.RESTHandler()
	if err != nil {
		return fmt.Errorf("rest: %w", err)
	}

	paths := restPaths{metrics: metrics, debug: p.control.GuardDebug(debugPages(p.recorder)), calls: calls}
	handler, err := withConsole(p.cfg, p.sockets.sse.Address(), paths)
	if err != nil {
		return err
	}
	p.rest = listen.NewServer(p.sockets.rest, p.askToReconnect(handler), nil, p.log)

	return nil
}

// metricsHandler registers the daemon's metrics and returns the handler for
// /metrics.
func (p *parts) metricsHandler() (http.Handler, error) {
	registry := p.opts.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
	}

	all := []prometheus.Collector{
		newCollector(sources{
			broker:         p.broker,
			streams:        p.streams,
			rejected:       p.rejected,
			maxConnections: p.maxStreams.Load,
			descriptors:    p.browsers.Descriptors,
			keyReads:       func() (good, failed int64) { return p.auth.Load().keyReads() },
			lostLines:      p.opts.LostLines,
			version:        p.opts.Version,
		}),
		p.control.Metrics(),
		p.hooks,
		p.sources,
		p.reloads,
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsScheduler)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	if p.member != nil {
		all = append(all, p.member.node, p.member.directory)
	}

	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}

	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	})
	if p.cfg.Control.GuardMetrics {
		return p.control.GuardMetrics(handler), nil
	}
	return handler, nil
}

// restPaths routes requests on the REST listener to metrics, debug pages and calls. It
// isn't an [http.ServeMux], because a ServeMux cleans paths and calls need them
// unchanged.
type restPaths struct{ metrics, debug, calls http.Handler }

// ServeHTTP implements [http.Handler].
func (p restPaths) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/metrics" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		p.metrics.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, "/debug/"):
		p.debug.ServeHTTP(w, r)
	default:
		p.calls.ServeHTTP(w, r)
	}
}
