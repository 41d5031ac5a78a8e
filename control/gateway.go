package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// queries are the messages that the query of a GET fills, by path. A path that
// is not here takes no query.
func queries() map[string]proto.Message {
	return map[string]proto.Message{
		"/v1/users":  &pealv1.ListUsersRequest{},
		"/v1/topics": &pealv1.ListTopicsRequest{},
		tailPattern:  &pealv1.TailRequest{},
	}
}

// newGateway returns the REST twin of client's calls. It is strict where the
// gateway's own handlers let things pass: what a request says and nobody would
// read is refused by name. WriteError answers with the error.
func newGateway(client pealv1.ControlServiceClient, writeError func(http.ResponseWriter, error)) (http.Handler, error) {
	g := &gateway{queries: queries(), writeError: writeError}

	routes := runtime.NewServeMux(
		runtime.WithDisablePathLengthFallback(),
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
		runtime.WithMiddlewares(func(runtime.HandlerFunc) runtime.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
				if m, ok := w.(*matched); ok {
					m.yes = true
				}
			}
		}),
		runtime.WithRoutingErrorHandler(func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, int) {}),
		runtime.WithErrorHandler(func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, error) {
		}),
	)
	g.routes = routes

	g.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, restJSON()),
		// A form is what curl -d calls its JSON; it is none.
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		// Splits at slashes before it unescapes, so that %2F stays in a user id.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
		runtime.WithWriteContentLength(),
		// net/http does it by itself, where the protocol has it.
		runtime.WithDisableChunkedEncoding(),
		// Authorization goes through by itself.
		runtime.WithIncomingHeaderMatcher(traceHeader),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithMiddlewares(g.checked),
		runtime.WithErrorHandler(g.failed),
		runtime.WithStreamErrorHandler(streamFailed),
		runtime.WithRoutingErrorHandler(g.unrouted),
	)
	for _, mux := range []*runtime.ServeMux{routes, g.mux} {
		// The context would be for streams of the gateway's own.
		if err := pealv1.RegisterControlServiceHandlerClient(context.Background(), mux, client); err != nil {
			return nil, fmt.Errorf("registering the REST calls: %w", err)
		}
	}
	return g, nil
}

func noHeader(string) (string, bool) { return "", false }

// traceHeader passes on which trace a call belongs to, and nothing else.
func traceHeader(name string) (metadataKey string, ok bool) {
	switch key := strings.ToLower(name); key {
	case traceParent, traceState:
		return key, true
	}
	return "", false
}

type gateway struct {
	mux *runtime.ServeMux

	// routes has the same routes as mux and calls nothing: it is asked which
	// methods a path has, since mux doesn't tell.
	routes *runtime.ServeMux

	queries map[string]proto.Message

	writeError func(http.ResponseWriter, error)
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := r.WithContext(r.Context())
	call.Body = &requestBody{ReadCloser: r.Body, length: r.ContentLength, contentType: r.Header.Get("Content-Type"), codings: r.Header.Values("Content-Encoding")}
	// The gateway would find a meaning in other headers that they don't have
	// here, and complain of some on standard error.
	call.Header = http.Header{}
	for _, name := range []string{"Authorization", "Traceparent", "Tracestate"} {
		if values, ok := r.Header[name]; ok {
			call.Header[name] = values
		}
	}
	if r.Method == http.MethodHead {
		// net/http leaves the body out of the answer.
		call.Method = http.MethodGet
	}
	g.mux.ServeHTTP(w, call)
}

// checked refuses what the generated handlers would pass over.
func (g *gateway) checked(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		err := checkParams(params)
		if err == nil {
			err = g.checkQuery(r)
		}
		if err == nil && r.Method != http.MethodGet {
			err = checkContentType(r.Body)
		}
		if err == nil && r.Method != http.MethodGet {
			err = checkCodings(w, r.Body)
		}
		if err != nil {
			g.writeError(w, err)
			return
		}
		if body, ok := r.Body.(*requestBody); ok {
			body.inPath = params
		}
		ctx, release := callContext(r)
		defer release()
		reply := &answer{ResponseWriter: w}
		next(reply, r.WithContext(ctx), params)
		if err := reply.failure(); err != nil {
			g.writeError(w, err)
		}
	}
}

// checkParams refuses fields from the path that gRPC could not carry.
func checkParams(params map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !utf8.ValidString(params[name]) {
			return invalid(fieldError{name, notUTF8})
		}
	}
	return nil
}

// checkQuery refuses parameters that are unknown or don't parse.
func (g *gateway) checkQuery(r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(codes.InvalidArgument, reasonInvalidRequest, fmt.Sprintf("the query can't be read: %v", err))
	}
	if len(query) == 0 {
		return nil
	}
	pattern, _ := runtime.HTTPPattern(r.Context())
	message, ok := g.queries[pattern.String()]
	if !ok || r.Method != http.MethodGet {
		message = nil
	}
	nothing := utilities.NewDoubleArray(nil)
	seen := make(map[protoreflect.FieldNumber]bool)
	chosen := make(map[protoreflect.Name]string) // fields of which there may be one, by their oneof
	var wrong []fieldError
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		if message == nil {
			wrong = append(wrong, fieldError{madeUp(name), "is in the query, and this call takes nothing from there"})
			continue
		}
		field := fieldNamed(message, name)
		if field == nil {
			wrong = append(wrong, fieldError{madeUp(name), "is no parameter of this call"})
			continue
		}
		name := field.TextName()
		switch {
		case !utf8.ValidString(strings.Join(values, "")):
			wrong = append(wrong, fieldError{name, notUTF8})
		case len(values) > 1 || seen[field.Number()]:
			wrong = append(wrong, fieldError{name, moreThanOnce})
		case field.ContainingOneof() != nil && chosen[field.ContainingOneof().Name()] != "":
			wrong = append(wrong, fieldError{name, "is given beside " + chosen[field.ContainingOneof().Name()] + ", only one of them is accepted"})
		case runtime.PopulateQueryParameters(message.ProtoReflect().New().Interface(), url.Values{name: values}, nothing) != nil:
			wrong = append(wrong, fieldError{name, fmt.Sprintf("is %.80q and %s", values[0], wanted(field))})
		}
		seen[field.Number()] = true
		if one := field.ContainingOneof(); one != nil {
			chosen[one.Name()] = name
		}
	}
	if len(wrong) > 0 {
		return invalid(wrong[:min(len(wrong), maxWrong)]...)
	}
	return nil
}

// checkContentType takes JSON, and what people's tools call it.
func checkContentType(body io.Reader) error {
	b, ok := body.(*requestBody)
	if !ok || b.contentType == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(b.contentType)
	switch {
	case err != nil:
	case media == "application/json", strings.HasSuffix(media, "+json"),
		// curl -d, and fetch with a string.
		media == "application/x-www-form-urlencoded", media == "text/plain":
		return nil
	}
	refused := refuse(codes.InvalidArgument, reasonMediaType, fmt.Sprintf("the Content-Type is %.80q, application/json is accepted", b.contentType))
	refused.httpStatus = http.StatusUnsupportedMediaType
	return refused
}

// checkCodings refuses a body that is compressed or otherwise encoded.
func checkCodings(w http.ResponseWriter, body io.Reader) error {
	b, ok := body.(*requestBody)
	if !ok {
		return nil
	}

	for coding := range strings.SplitSeq(strings.Join(b.codings, ","), ",") {
		coding = strings.TrimSpace(coding)
		if coding == "" || strings.EqualFold(coding, "identity") {
			continue
		}

		w.Header().Set("Accept-Encoding", "identity")

		refused := refuse(codes.InvalidArgument, reasonMediaType,
			fmt.Sprintf("unsupported Content-Encoding %.80q; send the body without an encoding", madeUp(coding)))
		refused.httpStatus = http.StatusUnsupportedMediaType

		return refused
	}

	return nil
}

// failed answers a call with err, which is gRPC's or the generated code's.
func (g *gateway) failed(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	// The generated code keeps no more than the text of what the decoder says.
	if body, ok := r.Body.(*requestBody); ok && body.refused != nil {
		err = body.refused
	}
	if _, ok := errors.AsType[*runtime.HTTPStatusError](err); ok {
		err = refuse(codes.InvalidArgument, reasonInvalidRequest, "the path can't be read: it has a bad percent-encoding")
	}
	err = insideError(r.Context(), err)
	if a, ok := w.(*answer); ok {
		w = a.ResponseWriter
	}
	g.writeError(w, err)
}

// insideError returns what the caller gets for err, the error of a call on the
// connection inside the process. The client's end of that connection has
// statuses of its own, which have no details: for a caller that is gone, for a
// deadline that has passed, and for a connection that was closed because the
// daemon is stopping.
func insideError(ctx context.Context, err error) error {
	st, ok := status.FromError(err)
	switch {
	case !ok || len(st.Proto().GetDetails()) > 0:
		return err
	case st.Code() == codes.Canceled && ctx.Err() == nil:
		return broker.ErrClosed
	case st.Code() == codes.Canceled:
		return refusalOf(context.Canceled).status().Err()
	case st.Code() == codes.DeadlineExceeded:
		return refusalOf(context.DeadlineExceeded).status().Err()
	}
	return err
}

// unrouted answers a request that no route matches.
func (g *gateway) unrouted(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
	if allowed := g.methods(r); len(allowed) > 0 {
		g.writeError(w, methodNotAllowed(w, r, allowed))
		return
	}
	g.writeError(w, unknownPath())
}

// methods are those that r's path has.
func (g *gateway) methods(r *http.Request) []string {
	var found []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		// The header is left out: it is not to override the method.
		probe := &http.Request{Method: method, URL: r.URL, Header: http.Header{}, Body: http.NoBody}
		w := &matched{}
		g.routes.ServeHTTP(w, probe.WithContext(r.Context()))
		if w.yes {
			found = append(found, method)
		}
	}
	return found
}

// matched is what a route of gateway.routes notes its match in.
type matched struct{ yes bool }

func (*matched) Header() http.Header         { return http.Header{} }
func (*matched) Write(p []byte) (int, error) { return len(p), nil }
func (*matched) WriteHeader(int)             {}
