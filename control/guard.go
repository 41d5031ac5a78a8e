package control

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// What stands beside the calls on the REST listener has the names of methods
// too, for scopes, limits and the log.
const (
	guardedMetrics = "/peal.v1.ControlService/Metrics" // needs ScopeRead
	guardedDebug   = "/peal.v1.ControlService/Debug"   // needs ScopeAdmin
)

// GuardMetrics lets those through to next who may read figures.
func (s *Service) GuardMetrics(next http.Handler) http.Handler { return s.guard(guardedMetrics, next) }

// GuardDebug lets those through to next who may do everything, and leaves a
// line in the log as admin calls do.
func (s *Service) GuardDebug(next http.Handler) http.Handler { return s.guard(guardedDebug, next) }

// guard has requests pass the checks that calls of method do. Only what reads
// is let through.
func (s *Service) guard(method string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.writeError(w, methodNotAllowed(w, r, []string{http.MethodGet}))
			return
		}
		ctx := asCall(r)
		c, err := s.letIn(ctx, r, method)
		if err != nil {
			s.writeError(w, err)
			st, _ := statusOf(err)
			err = st.Err()
		} else {
			next.ServeHTTP(w, r)
		}
		s.audit(ctx, c, method, guardedPath(r.URL.Path), err)
	})
}

// letIn is who asks, or why they may not.
func (s *Service) letIn(ctx context.Context, r *http.Request, method string) (c caller, err error) {
	if err = s.checkHost(r); err == nil {
		err = checkSite(r)
	}
	if err == nil {
		c, err = s.admit(ctx, method)
	}
	if err == nil {
		err = s.limits.take(c, method)
	}
	return c, err
}

// guardedPath is what was asked for under guardedDebug.
type guardedPath string

// checkSite refuses what another site's page has a browser ask for. It could not
// read the answer, but profiles cost something.
func checkSite(r *http.Request) error {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return nil
	}
	return refuse(codes.PermissionDenied, reasonForeignOrigin, "a web page of another origin may not ask for this")
}

// asCall is the context of r as a call of gRPC would have it.
func asCall(r *http.Request) context.Context {
	var from net.Addr = &net.UnixAddr{Net: "unix"}
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from = net.TCPAddrFromAddrPort(addr)
	}
	ctx := peer.NewContext(r.Context(), &peer.Peer{Addr: from})
	sent := metadata.MD{}
	for _, name := range []string{"Authorization", "Traceparent"} {
		if values := r.Header.Values(name); len(values) > 0 {
			sent.Set(name, values...)
		}
	}
	return metadata.NewIncomingContext(ctx, sent)
}
