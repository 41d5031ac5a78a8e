package control

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

//go:embed openapi/peald.openapi.json
var openAPI string

//go:embed openapi/peald.swagger.json
var swagger string

// rest is the HTTP side of the control plane.
type rest struct {
	service *Service
	calls   http.Handler // what is under /v1/
}

// RESTHandler returns the handler of /v1/, /openapi.json, /swagger.json,
// /healthz and /readyz; anything else is 404. What it runs inside the process ends with
// Close.
//
// It is to get paths as they came: a mux that cleans them would redirect user
// ids that hold slashes.
func (s *Service) RESTHandler() (http.Handler, error) {
	conn, err := s.openInside()
	if err != nil {
		return nil, err
	}
	gateway, err := newGateway(pealv1.NewControlServiceClient(conn), s.writeError)
	if err != nil {
		return nil, err
	}
	// Browsers send forms and plain text anywhere without asking; and a page
	// can make its own name point to this host and then count as the same
	// origin.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.writeError(w, refuse(codes.PermissionDenied, reasonForeignOrigin,
			"a web page of another origin may not call the control plane"))
	}))
	return drainBody(&rest{service: s, calls: protection.Handler(http.MaxBytesHandler(gateway, MaxRequest))}), nil
}

// ServeHTTP implements http.Handler.
func (h *rest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/v1/"):
		if err := h.service.checkHost(r); err != nil {
			h.service.writeError(w, err)
			return
		}
		h.calls.ServeHTTP(w, r)
	case path == "/openapi.json":
		h.page(w, r, http.StatusOK, "application/json", openAPI)
	case path == "/swagger.json":
		h.page(w, r, http.StatusOK, "application/json", swagger)
	case path == "/healthz":
		h.page(w, r, http.StatusOK, "text/plain; charset=utf-8", "ok")
	case path == "/readyz":
		if h.ready(r.Context()) {
			h.page(w, r, http.StatusOK, "text/plain; charset=utf-8", "ok")
		} else {
			h.page(w, r, http.StatusServiceUnavailable, "text/plain; charset=utf-8", h.unready())
		}
	default:
		h.service.writeError(w, unknownPath())
	}
}

func (h *rest) page(w http.ResponseWriter, r *http.Request, status int, contentType, body string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.service.writeError(w, methodNotAllowed(w, r, []string{http.MethodGet}))
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	// An error means that the client is gone.
	_, _ = io.WriteString(w, body) //nolint:gosec // of a type that is no page's
}

func (h *rest) ready(ctx context.Context) bool {
	reply, err := h.service.health.Check(ctx, &healthv1.HealthCheckRequest{})
	return err == nil && reply.GetStatus() == healthv1.HealthCheckResponse_SERVING
}

// unready is why the daemon is not serving, as far as is known.
func (h *rest) unready() string {
	if h.service.unready == nil {
		return "not serving"
	}
	return h.service.unready()
}

// checkHost refuses calls that reach an unguarded control plane under a name
// that a stranger may have made point here.
func (s *Service) checkHost(r *http.Request) error {
	if cfg := s.rules.Load().cfg; len(cfg.Tokens) > 0 || cfg.Insecure {
		return nil
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil {
		return nil
	}
	return refuse(codes.PermissionDenied, reasonForeignHost, fmt.Sprintf(
		"the host %.80q is not answered: with neither control.tokens nor control.insecure only localhost and IP addresses are", host))
}

func unknownPath() error {
	return refuse(codes.NotFound, reasonUnknownPath, "there is nothing at this path; /openapi.json lists what there is")
}

func methodNotAllowed(w http.ResponseWriter, r *http.Request, allowed []string) error {
	var list []string
	for _, m := range allowed {
		if list = append(list, m); m == http.MethodGet {
			list = append(list, http.MethodHead)
		}
	}
	w.Header().Set("Allow", strings.Join(list, ", "))
	err := refuse(codes.Unimplemented, reasonMethodNotAllowed,
		fmt.Sprintf("the method %.20q is not allowed here, %s is", r.Method, strings.Join(list, " or ")))
	err.httpStatus = http.StatusMethodNotAllowed
	return err
}

// writeError answers with err as a google.rpc.Status in JSON.
func (s *Service) writeError(w http.ResponseWriter, err error) {
	st, _ := statusOf(err)
	code := runtime.HTTPStatusFromCode(st.Code())
	if refused := refusalOf(err); refused != nil {
		// The others are those of calls inside the process, and counted there.
		s.metrics.refuse(err)
		if refused.httpStatus != 0 {
			code = refused.httpStatus
		}
	}
	switch code {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="peald"`)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusTooManyRequests:
		for _, detail := range st.Details() {
			if retry, ok := detail.(*errdetails.RetryInfo); ok {
				seconds := math.Ceil(retry.GetRetryDelay().AsDuration().Seconds())
				w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
			}
		}
	}
	body, err := restJSON().Marshal(st.Proto())
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"code":13,"message":"the error can't be said in JSON"}`+"\n")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	// An error means that the client is gone.
	_, _ = w.Write(body) //nolint:gosec // it is JSON, and not to be sniffed
}
