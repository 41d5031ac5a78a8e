package control

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// limits bound the calls a second of each caller, by name; those without a
// name share one. Names are the operator's and the authorities' to give, so
// there are no more of them than they made.
type limits struct {
	perSecond int // 0 is no limit

	mu     sync.Mutex
	byName map[string]*rate.Limiter
}

func newLimits(perSecond int) *limits {
	return &limits{perSecond: perSecond, byName: make(map[string]*rate.Limiter)}
}

// of is what bounds c's calls of method, or nil.
func (l *limits) of(c caller, method string) *rate.Limiter {
	if l.perSecond <= 0 || !strings.HasPrefix(method, "/"+pealv1.ControlService_ServiceDesc.ServiceName+"/") {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, ok := l.byName[c.name]
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), l.perSecond)
		l.byName[c.name] = limiter
	}
	return limiter
}

// take counts a call, or refuses it.
func (l *limits) take(c caller, method string) error {
	limiter := l.of(c, method)
	if limiter == nil {
		return nil
	}
	reservation := limiter.Reserve()
	wait := reservation.Delay()
	if wait <= 0 {
		return nil
	}
	reservation.Cancel()
	refused := refuse(codes.ResourceExhausted, reasonRateLimit, fmt.Sprintf(
		"%q has made more than %d calls a second (control.rate_limit)", c.name, l.perSecond))
	refused.retryAfter = wait
	return refused
}

// pacedStream gives its messages no faster than a limit lets them through; the
// sender then feels gRPC's flow control.
type pacedStream struct {
	grpc.ServerStream

	limiter *rate.Limiter
}

// RecvMsg implements [grpc.ServerStream].
func (s pacedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.pause(s.Context())
}

func (s pacedStream) pause(ctx context.Context) error {
	if s.limiter.Wait(ctx) != nil {
		// It sees beforehand that the deadline will pass.
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}
