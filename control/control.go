// Package control is the control plane of a daemon. It serves the ControlService for a
// broker over gRPC and REST, and authorizes its callers.
//
// Package rest forwards REST requests to an in-process gRPC server, so that REST
// and gRPC share the same checks and errors. Package apierror defines the errors.
//
// Files are prefixed by concern: call_ for the RPCs, watch_ for the parts of
// WatchConnections, cluster_ for calls to other nodes, auth_ for authentication and
// authorization, and grpc_ for the gRPC server.
package control

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// New returns a Service. Health checks and /readyz fail until SetServing is called. If
// there is no signing key, m must be a nil interface, and calls to CreateToken are
// rejected. The caller must close the Service.
func New(cfg Config, b Broker, m Minter) *Service {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	s := &Service{
		version:     cfg.Version,
		descriptors: cfg.Descriptors,
		drain:       cfg.Drain,
		unready:     cfg.Unready,

		broker:     b,
		cluster:    cfg.Cluster,
		membership: cfg.Membership,
		hooks:      cfg.Hooks,
		sources:    cfg.Sources,

		log:    log,
		health: health.NewServer(),

		scopes:      newScopes(),
		rejections:  newRejectionLog(),
		rateLimits:  newRateLimits(),
		metrics:     newMetrics(),
		tracer:      cfg.Tracer,
		streamCalls: newStreamCalls(),

		draining: make(chan struct{}),
	}
	s.Reconfigure(cfg, m)
	s.SetServing(false)

	return s
}

// Reconfigure applies m and the Tokens, Insecure, RateLimit, TopicPolicies and
// MaxConnections fields of cfg to later calls. It ignores all other fields of cfg.
//
// A streaming call continues if its caller could still make it with the new Config. If
// the caller's token has been removed or has lost the scope, the call ends with the
// error that a new call would get. Messages that have already been published are
// acknowledged first.
func (s *Service) Reconfigure(cfg Config, m Minter) {
	next := &reloadable{cfg: cfg, authorizer: newAuthorizer(cfg.Tokens, s.scopes), minter: m}
	s.reloadable.Store(next)
	s.rateLimits.set(cfg.RateLimit)

	if revoked := s.streamCalls.revoke(next.authorizer); revoked > 0 {
		s.log.Info("canceled calls whose tokens were revoked", "calls", revoked)
	}
}

// Metrics returns the Service's metrics. They must be registered only once.
func (s *Service) Metrics() prometheus.Collector { return s.metrics }

// SetServing sets whether health checks and /readyz succeed.
func (s *Service) SetServing(serving bool) {
	status := healthv1.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthv1.HealthCheckResponse_SERVING
	}

	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(pealv1.ControlService_ServiceDesc.ServiceName, status)
}

// EndCalls ends the long-lived calls (PublishStream, WatchConnections and Tail) and
// rejects new ones. Messages that have already been published are acknowledged first.
func (s *Service) EndCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if !s.drained {
		s.drained = true
		close(s.draining)
	}
}

// Close closes the REST handlers and waits for the Service's goroutines to finish. It
// cancels REST calls that are in progress, so stop the HTTP servers first. Health
// checks fail from then on. The caller must stop the servers that GRPCServer returned.
func (s *Service) Close() {
	s.EndCalls()

	s.mu.Lock()
	defer s.mu.Unlock()

	s.closed = true
	s.health.Shutdown()

	for _, handler := range s.restHandlers {
		handler.Close()
	}

	s.restHandlers = nil
	s.receivers.Wait()
}
