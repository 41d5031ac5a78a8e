package rest

import (
	"context"
	"net/http"
)

// callContext returns the context for the call that r makes, and a function that
// releases it. LongLived is true if the call lasts until its caller cancels it.
//
// net/http cancels r's context when it reads the end of an HTTP/1.x connection. But a
// client may close its sending side once it has sent its request, and wait for the
// response. Until the server writes something, such a client is indistinguishable from
// one that is gone. A call over HTTP/1.x therefore runs to completion, which takes a
// bounded time unless the call is long-lived. HTTP/2 has separate frames for the end of
// a request and for its cancellation, so its calls keep r's context.
func callContext(r *http.Request, longLived bool) (context.Context, context.CancelFunc) {
	ctx := r.Context()
	if r.ProtoMajor > 1 || longLived {
		return ctx, func() {}
	}

	call := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(call, deadline)
	}

	return call, func() {}
}
