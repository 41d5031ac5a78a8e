package control

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/peald/peald/control/rest"
)

//go:embed openapi/peald.openapi.json
var openAPI string

//go:embed openapi/peald.swagger.json
var swagger string

// RESTHandler returns a [rest.Handler] for the REST API. [Service.Close] closes it.
// Paths must be passed to it unchanged: a mux that cleans paths would redirect requests
// for user ids that contain slashes.
func (s *Service) RESTHandler() (http.Handler, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.closed {
		return nil, errors.New("the control plane is closed")
	}

	handler, err := rest.New(rest.Config{
		Server:    s.GRPCServer(),
		OpenAPI:   openAPI,
		Swagger:   swagger,
		CheckHost: s.checkHost,
		Ready:     s.ready,
		RateLimit: s.rateLimits.limit,
		Rejected:  s.metrics.countRejection,
	})
	if err != nil {
		return nil, fmt.Errorf("serving REST: %w", err)
	}

	s.restHandlers = append(s.restHandlers, handler)

	return handler, nil
}

// ready reports whether the daemon is serving. If it isn't, ready also returns the
// reason.
func (s *Service) ready(ctx context.Context) (ready bool, reason string) {
	reply, err := s.health.Check(ctx, &healthv1.HealthCheckRequest{})

	switch {
	case err == nil && reply.GetStatus() == healthv1.HealthCheckResponse_SERVING:
		return true, ""
	case s.unready == nil:
		return false, "not serving"
	}

	return false, s.unready()
}
