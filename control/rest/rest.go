// Package rest serves the control plane as REST. It forwards calls to an
// in-process gRPC server, so that REST and gRPC share the same checks and errors.
//
// The package adds the parts that are specific to HTTP: strict JSON, queries and
// paths, errors as google.rpc.Status, protection from web pages from other
// origins, health checks and the OpenAPI documents.
package rest

import (
	"context"
	"io"
	"net/http"
	"strings"

	"google.golang.org/grpc"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// MaxBody is the maximum size of a request body in bytes.
const MaxBody = 4 << 20

// Config configures a [Handler]. Every field is required.
type Config struct {
	// Server serves the calls. The Handler owns it, and stops it in Close.
	Server *grpc.Server

	// OpenAPI and Swagger are the OpenAPI 3 and Swagger 2.0 documents that describe the
	// calls.
	OpenAPI, Swagger string

	// CheckHost returns an error if a request must be rejected because of its host.
	CheckHost func(*http.Request) error

	// Ready reports whether /readyz succeeds. If it doesn't, reason is the body of the
	// response.
	Ready func(context.Context) (ready bool, reason string)

	// RateLimit returns the maximum number of calls per second from one caller, or 0.
	RateLimit func() int

	// Rejected is called with each error that the Handler itself detects, but not with
	// errors from calls that reached Server.
	Rejected func(error)
}

// Handler serves /v1/, /openapi.json, /swagger.json, /healthz and /readyz. It responds
// to any other path with 404. Paths must be passed to it unchanged: a mux that cleans
// paths would redirect requests for user ids that contain slashes.
type Handler struct {
	cfg       Config
	inProcess *inProcess
	calls     http.Handler // for /v1/
	all       http.Handler
}

// New returns a Handler. The caller must close it.
func New(cfg Config) (*Handler, error) {
	inProcess, err := serveInProcess(cfg.Server)
	if err != nil {
		return nil, err
	}

	h := &Handler{cfg: cfg, inProcess: inProcess}

	gateway, err := newGateway(cfg, pealv1.NewControlServiceClient(inProcess.conn), h.writeError)
	if err != nil {
		inProcess.close()

		return nil, err
	}

	// Browsers send forms and plain text to other origins without a preflight request.
	// A page's owner could also make the page's host name resolve to this host, which
	// would give the page the same origin. CheckHost protects against that.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.writeError(w, foreignOrigin())
	}))

	h.calls = protection.Handler(http.MaxBytesHandler(gateway, MaxBody))
	h.all = drainBody(http.HandlerFunc(h.route))

	return h, nil
}

// Close stops the Server and cancels calls that are in progress. Later calls fail with
// Unavailable.
func (h *Handler) Close() { h.inProcess.close() }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.all.ServeHTTP(w, r) }

func (h *Handler) route(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")

	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/v1/"):
		if err := h.cfg.CheckHost(r); err != nil {
			h.writeError(w, err)

			return
		}

		h.calls.ServeHTTP(w, r)
	case path == "/openapi.json":
		h.writePage(w, r, http.StatusOK, "application/json", h.cfg.OpenAPI)
	case path == "/swagger.json":
		h.writePage(w, r, http.StatusOK, "application/json", h.cfg.Swagger)
	case path == "/healthz":
		h.writePage(w, r, http.StatusOK, "text/plain; charset=utf-8", "ok")
	case path == "/readyz":
		if ready, reason := h.cfg.Ready(r.Context()); ready {
			h.writePage(w, r, http.StatusOK, "text/plain; charset=utf-8", "ok")
		} else {
			h.writePage(w, r, http.StatusServiceUnavailable, "text/plain; charset=utf-8", reason)
		}
	default:
		h.writeError(w, unknownPath())
	}
}

func (h *Handler) writePage(w http.ResponseWriter, r *http.Request, status int, contentType, body string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.writeError(w, MethodNotAllowed(w, r, http.MethodGet))

		return
	}

	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	// An error means that the client is gone.
	_, _ = io.WriteString(w, body)
}

// writeError responds with err, and reports it to Rejected unless it comes from Server.
func (h *Handler) writeError(w http.ResponseWriter, err error) {
	if apierror.From(err) != nil {
		h.cfg.Rejected(err)
	}

	WriteError(w, err)
}
