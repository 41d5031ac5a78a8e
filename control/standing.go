package control

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
)

// standing are the calls on streams that are under way. Such a call may last
// for weeks, and is not to outlast the right to it.
type standing struct {
	mu    sync.Mutex
	calls map[*standingCall]struct{}
}

func newStanding() *standing { return &standing{calls: make(map[*standingCall]struct{})} }

// standingCall is a call's stream, whose context ends when it is revoked.
type standingCall struct {
	grpc.ServerStream

	method string
	ctx    context.Context //nolint:containedctx // a ServerStream has one
	revoke context.CancelCauseFunc
}

// Context implements [grpc.ServerStream].
func (c *standingCall) Context() context.Context { return c.ctx }

// begin takes a call in. It has to be checked after that, not before: so it is
// either checked by the rules that are new, or among those that they end.
func (s *standing) begin(stream grpc.ServerStream, method string) *standingCall {
	ctx, revoke := context.WithCancelCause(stream.Context())
	call := &standingCall{stream, method, ctx, revoke}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[call] = struct{}{}
	return call
}

func (s *standing) end(call *standingCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, call)
	call.revoke(nil)
}

// check ends the calls that their callers may no longer make, and counts them.
func (s *standing) check(a *access) (ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for call := range s.calls {
		if _, err := a.check(call.ctx, call.method); err != nil {
			call.revoke(err)
			ended++
		}
	}
	return ended
}

// revoked is why the call was ended, or nil if it was not.
func (c *standingCall) revoked() error {
	if refused, ok := errors.AsType[*refusedError](context.Cause(c.ctx)); ok {
		return refused
	}
	return nil
}
