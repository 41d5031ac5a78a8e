package control

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/control/rest"
)

// GuardMetrics wraps next so that it requires ScopeRead.
func (s *Service) GuardMetrics(next http.Handler) http.Handler { return s.guard(guardedMetrics, next) }

// GuardDebug wraps next so that it requires ScopeAdmin. Requests are logged like
// admin calls.
func (s *Service) GuardDebug(next http.Handler) http.Handler { return s.guard(guardedDebug, next) }

// guard wraps next with the checks that apply to calls to method. It accepts only GET
// and HEAD requests.
func (s *Service) guard(method string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")

		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.reject(w, rest.MethodNotAllowed(w, r, http.MethodGet))

			return
		}

		ctx := callContext(r)
		c, err := s.authorizeRequest(ctx, r, method)

		if err != nil {
			s.reject(w, err)

			st, _ := apierror.Status(err)
			err = st.Err()
		} else {
			next.ServeHTTP(w, r)
		}

		s.audit(ctx, c, method, debugPath(r.URL.Path), err)
	})
}

// reject responds with err and counts it.
func (s *Service) reject(w http.ResponseWriter, err error) {
	s.metrics.countRejection(err)
	rest.WriteError(w, err)
}

// authorizeRequest returns the caller of method, or an error if the caller may
// not call method.
func (s *Service) authorizeRequest(ctx context.Context, r *http.Request, method string) (c caller, err error) {
	if err = s.checkHost(r); err == nil {
		err = rest.CheckSite(r)
	}

	if err == nil {
		c, err = s.authorize(ctx, method)
	}

	if err == nil {
		err = s.rateLimits.take(c, method, 1)
	}

	return c, err
}

// checkHost rejects requests that reach an unauthenticated control plane under a
// name that an attacker may have pointed at this address.
func (s *Service) checkHost(r *http.Request) error {
	if cfg := s.reloadable.Load().cfg; len(cfg.Tokens) > 0 || cfg.Insecure {
		return nil
	}

	return rest.CheckHost(r)
}

// callContext returns the context that r would have if it were a gRPC call.
func callContext(r *http.Request) context.Context {
	var from net.Addr = &net.UnixAddr{Net: "unix"}
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from = net.TCPAddrFromAddrPort(addr)
	}

	ctx := peer.NewContext(r.Context(), &peer.Peer{Addr: from})
	md := metadata.MD{}

	for _, name := range []string{"Authorization", "Traceparent"} {
		if values := r.Header.Values(name); len(values) > 0 {
			md.Set(name, values...)
		}
	}

	return metadata.NewIncomingContext(ctx, md)
}
