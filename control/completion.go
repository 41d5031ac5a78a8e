package control

import (
	"context"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
)

// tailPattern is the path of the only REST call that has no end of its own.
const tailPattern = "/v1/tail"

// callContext returns the context in which the call that r makes is carried
// out, and a function that releases it.
//
// net/http cancels r's context when it reads the end of an HTTP/1.x
// connection. A client that has sent its request may shut down its sending side
// and wait for the response, and until something is written to it, it can't be
// told from a client that is gone. So a call over HTTP/1.x is carried out
// to its end, which is near: every call but Tail is bounded in time. HTTP/2
// has frames for the end of a request and for its cancellation, and its
// context is kept.
func callContext(r *http.Request) (context.Context, context.CancelFunc) {
	ctx := r.Context()
	if r.ProtoMajor > 1 || endless(ctx) {
		return ctx, func() {}
	}

	call := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(call, deadline)
	}

	return call, func() {}
}

// endless reports whether the call that the gateway has routed lasts until its
// caller leaves.
func endless(ctx context.Context) bool {
	pattern, ok := runtime.HTTPPattern(ctx)

	return ok && pattern.String() == tailPattern
}
