package control

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"

	"github.com/peald/peald/control/apierror"
)

// streamCalls holds the streaming calls that are in progress. Such a call can last for
// weeks, so it is canceled if its caller loses the right to make it.
type streamCalls struct {
	mu    sync.Mutex
	calls map[*streamCall]struct{}
}

func newStreamCalls() *streamCalls { return &streamCalls{calls: make(map[*streamCall]struct{})} }

// streamCall is the stream of a call. Its context is canceled when the call is
// revoked.
type streamCall struct {
	grpc.ServerStream

	method string
	ctx    context.Context //nolint:containedctx // A ServerStream has one.
	revoke context.CancelCauseFunc
}

// Context implements [grpc.ServerStream].
func (c *streamCall) Context() context.Context { return c.ctx }

// add registers a call. The caller must be authorized after add, not before,
// so that a concurrent Reconfigure either applies to the authorization or revokes
// the call.
func (s *streamCalls) add(stream grpc.ServerStream, method string) *streamCall {
	ctx, revoke := context.WithCancelCause(stream.Context())
	call := &streamCall{stream, method, ctx, revoke}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.calls[call] = struct{}{}

	return call
}

func (s *streamCalls) remove(call *streamCall) {
	s.mu.Lock()
	defer s.mu.Unlock()

	delete(s.calls, call)
	call.revoke(nil)
}

// revoke cancels calls whose callers are no longer authorized to make them, and
// returns how many it canceled.
func (s *streamCalls) revoke(a *authorizer) (revoked int) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for call := range s.calls {
		if _, err := a.authorize(call.ctx, call.method); err != nil {
			call.revoke(err)

			revoked++
		}
	}

	return revoked
}

// revoked returns the error that the call was revoked with, or nil if it wasn't
// revoked.
func (c *streamCall) revoked() error {
	if rejected, ok := errors.AsType[*apierror.Error](context.Cause(c.ctx)); ok {
		return rejected
	}

	return nil
}
