package rest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// gateway maps REST requests to gRPC calls. It is stricter than the generated handlers:
// it rejects requests with any part that they would ignore, and names that part in the
// error.
type gateway struct {
	client pealv1.ControlServiceClient
	mux    *runtime.ServeMux

	// routes has the same routes as mux but makes no calls. It is used to find the
	// methods that a path supports, which mux doesn't expose.
	routes *runtime.ServeMux

	calls map[string]queryCall // by routeKey

	writeError func(http.ResponseWriter, error)
	rateLimit  func() int // Config.RateLimit
}

// newGateway returns a gateway that makes its calls through client. WriteError responds
// with an error.
func newGateway(cfg Config, client pealv1.ControlServiceClient, writeError func(http.ResponseWriter, error)) (*gateway, error) {
	calls, err := queryCalls(cfg.Swagger)
	if err != nil {
		return nil, err
	}

	g := &gateway{client: client, calls: calls, writeError: writeError, rateLimit: cfg.RateLimit, routes: newRouteProbe()}

	g.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, new(jsonMarshaler)),
		// Otherwise, a POST with the content type of a form could be handled as a GET,
		// and curl -d sends that content type even for JSON.
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		// Split the path at slashes before unescaping it, so that a user id can contain
		// %2F.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
		runtime.WithWriteContentLength(),
		// net/http chooses chunked encoding itself where the protocol supports it.
		runtime.WithDisableChunkedEncoding(),
		// The Authorization header is always passed on.
		runtime.WithIncomingHeaderMatcher(traceHeader),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithMiddlewares(g.strict),
		runtime.WithErrorHandler(g.handleError),
		runtime.WithStreamErrorHandler(streamError),
		runtime.WithForwardResponseOption(replaceErrors),
		runtime.WithRoutingErrorHandler(g.handleUnrouted),
	)

	for _, mux := range []*runtime.ServeMux{g.routes, g.mux} {
		// The context isn't used: the gateway doesn't own client's connection.
		if err := pealv1.RegisterControlServiceHandlerClient(context.Background(), mux, client); err != nil {
			return nil, fmt.Errorf("registering the REST calls: %w", err)
		}
	}

	return g, nil
}

func noHeader(string) (string, bool) { return "", false }

// traceHeader passes on the W3C Trace Context headers and no others.
func traceHeader(name string) (metadataKey string, ok bool) {
	switch key := strings.ToLower(name); key {
	case "traceparent", "tracestate":
		return key, true
	}

	return "", false
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == cloudEventsPath {
		g.serveCloudEvents(w, r)

		return
	}

	call := callRequest(r)
	call.Body = newRequestBody(r)

	if r.Method == http.MethodHead {
		// net/http omits the body from the response.
		call.Method = http.MethodGet
	}

	g.mux.ServeHTTP(w, call)
}

// callRequest returns a copy of r with only the headers that are passed on. The mux would
// interpret others, which have no meaning here, and would print warnings about some of
// them to standard error.
func callRequest(r *http.Request) *http.Request {
	call := r.WithContext(r.Context())
	call.Header = http.Header{}

	for _, name := range []string{"Authorization", "Traceparent", "Tracestate"} {
		if values, ok := r.Header[name]; ok {
			call.Header[name] = values
		}
	}

	return call
}

// strict rejects requests with parts that the generated handlers would ignore.
func (g *gateway) strict(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		var call queryCall // its request is nil if the request is in the body

		if pattern, ok := runtime.HTTPPattern(r.Context()); ok {
			call = g.calls[routeKey(r.Method, pattern.String())]
		}

		if err := check(w, r, params, call); err != nil {
			g.writeError(w, err)

			return
		}

		if call.everyone {
			r = call.setEveryone(r)
		}

		ctx, release := callContext(r, call.longLived)
		defer release()

		response := &responseWriter{ResponseWriter: w}
		next(response, r.WithContext(withBody(ctx, r)), params)

		if err := response.err(); err != nil {
			g.writeError(w, err)
		}
	}
}

// check checks the path, the query and the headers of a request. The body is
// checked when it is decoded.
func check(w http.ResponseWriter, r *http.Request, params map[string]string, call queryCall) error {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !utf8.ValidString(params[name]) {
			return apierror.Invalid(apierror.Field{Name: name, Problem: apierror.NotUTF8})
		}
	}

	if err := call.checkQuery(r, params); err != nil {
		return err
	}

	body, ok := r.Body.(*requestBody)
	if !ok {
		return nil
	}

	body.inPath = params

	if r.Method == http.MethodGet || r.Method == http.MethodDelete {
		return nil
	}

	if err := body.checkContentType(); err != nil {
		return err
	}

	return body.checkEncodings(w.Header())
}

// methods returns the methods that r's path supports.
func (g *gateway) methods(r *http.Request) []string {
	var found []string

	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		// Omit the original headers: they could override the method.
		request := &http.Request{Method: method, URL: r.URL, Header: http.Header{}, Body: http.NoBody}

		probe := &routeProbe{}
		g.routes.ServeHTTP(probe, request.WithContext(r.Context()))

		if probe.matched {
			found = append(found, method)
		}
	}

	return found
}

// routeProbe records whether a mux from newRouteProbe found a matching route.
type routeProbe struct{ matched bool }

// newRouteProbe returns a mux that makes no calls. When it serves a request to a
// *routeProbe, it records there whether a route matches the request.
func newRouteProbe() *runtime.ServeMux {
	return runtime.NewServeMux(
		runtime.WithDisablePathLengthFallback(),
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
		runtime.WithMiddlewares(func(runtime.HandlerFunc) runtime.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
				if probe, ok := w.(*routeProbe); ok {
					probe.matched = true
				}
			}
		}),
		runtime.WithRoutingErrorHandler(func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, int) {}),
		runtime.WithErrorHandler(func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, error) {
		}),
	)
}

func (*routeProbe) Header() http.Header         { return http.Header{} }
func (*routeProbe) Write(p []byte) (int, error) { return len(p), nil }
func (*routeProbe) WriteHeader(int)             {}
