package rest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control/apierror"
)

// WriteError responds with err as a google.rpc.Status in JSON.
func WriteError(w http.ResponseWriter, err error) {
	st, _ := apierror.Status(err)
	code := runtime.HTTPStatusFromCode(st.Code())

	if e := apierror.From(err); e != nil && e.HTTPStatus != 0 {
		code = e.HTTPStatus
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

	body, err := new(jsonMarshaler).Marshal(st.Proto())
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"code":13,"message":"the error can't be encoded as JSON"}`+"\n")
	}

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	// An error means that the client is gone.
	_, _ = w.Write(body) //nolint:gosec // The response is JSON, and must not be sniffed.
}

// MethodNotAllowed sets the response's Allow header and returns the error for a request
// whose method isn't in allowed. GET implies HEAD.
func MethodNotAllowed(w http.ResponseWriter, r *http.Request, allowed ...string) error {
	var list []string

	for _, m := range allowed {
		list = append(list, m)
		if m == http.MethodGet {
			list = append(list, http.MethodHead)
		}
	}

	w.Header().Set("Allow", strings.Join(list, ", "))

	err := apierror.New(codes.Unimplemented, apierror.ReasonMethodNotAllowed,
		fmt.Sprintf("method %.20q is not allowed; use %s", r.Method, strings.Join(list, " or ")))
	err.HTTPStatus = http.StatusMethodNotAllowed

	return err
}

func unknownPath() error {
	return apierror.New(codes.NotFound, apierror.ReasonUnknownPath, "unknown path; /openapi.json lists all paths")
}

// inProcessError converts err, an error from a call on the in-process connection, to
// the error that the caller receives. The client side of that connection creates
// statuses without details in three cases: the caller is gone, a deadline has passed,
// or the connection was closed because the daemon is shutting down.
func inProcessError(ctx context.Context, err error) error {
	st, ok := status.FromError(err)

	switch {
	case !ok || len(st.Proto().GetDetails()) > 0:
		return err
	case st.Code() == codes.Canceled && ctx.Err() == nil:
		return apierror.Stopping()
	case st.Code() == codes.Canceled:
		return apierror.From(context.Canceled).Status().Err()
	case st.Code() == codes.DeadlineExceeded:
		return apierror.From(context.DeadlineExceeded).Status().Err()
	}

	return err
}

// handleError responds with err, an error from gRPC or from the generated code.
func (g *gateway) handleError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	// The generated code has kept only the message of the decoder's error.
	if body, ok := r.Body.(*requestBody); ok && body.err != nil {
		err = body.err
	}

	if _, ok := errors.AsType[*runtime.HTTPStatusError](err); ok {
		err = apierror.New(codes.InvalidArgument, apierror.ReasonInvalidRequest, "malformed path: invalid percent-encoding")
	}

	if wrapped, ok := w.(*responseWriter); ok {
		w = wrapped.ResponseWriter
	}

	g.writeError(w, inProcessError(r.Context(), err))
}

// handleUnrouted responds to a request that matches no route.
func (g *gateway) handleUnrouted(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
	if allowed := g.methods(r); len(allowed) > 0 {
		g.writeError(w, MethodNotAllowed(w, r, allowed...))

		return
	}

	g.writeError(w, unknownPath())
}
