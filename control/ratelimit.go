package control

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// maxNames bounds the names whose calls are counted, for an authority may sign
// a new name for each process that it starts. Of more, the one that has been
// silent for longest begins anew when it comes back, which then costs it
// nothing: a second of silence is enough for that.
const maxNames = 10_000

// limits bound the calls a second of each caller, by name; those without a
// name share one.
type limits struct {
	perSecond atomic.Int64 // 0 is no limit; stored under mu

	mu     sync.Mutex
	byName *simplelru.LRU[string, *rate.Limiter]
}

func newLimits() *limits {
	byName, err := simplelru.NewLRU[string, *rate.Limiter](maxNames, nil)
	if err != nil {
		panic(err) // maxNames is not positive
	}
	return &limits{byName: byName}
}

// set has all that is asked for from now on bounded anew.
func (l *limits) set(perSecond int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perSecond.Swap(int64(perSecond)) == int64(perSecond) {
		return
	}
	if perSecond == 0 {
		l.byName.Purge()
	}
	for _, limiter := range l.byName.Values() {
		limiter.SetLimit(rate.Limit(perSecond))
		limiter.SetBurst(perSecond)
	}
}

// of is what bounds c's calls of method, or nil.
func (l *limits) of(c caller, method string) *rate.Limiter {
	if l.perSecond.Load() == 0 || !strings.HasPrefix(method, "/"+pealv1.ControlService_ServiceDesc.ServiceName+"/") {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	perSecond := int(l.perSecond.Load())
	if perSecond == 0 {
		return nil
	}
	limiter, ok := l.byName.Get(c.name)
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		l.byName.Add(c.name, limiter)
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
		"%q has made more than %d calls a second (control.rate_limit)", c.name, limiter.Burst()))
	refused.retryAfter = wait
	return refused
}

// pacedStream gives the messages of a PublishStream no faster than its caller's
// limit lets them through; the sender then feels gRPC's flow control.
type pacedStream struct {
	grpc.ServerStream

	limits *limits
	caller caller
}

// RecvMsg implements [grpc.ServerStream].
func (s pacedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	// The limit may change from one message to the next.
	limiter := s.limits.of(s.caller, pealv1.ControlService_PublishStream_FullMethodName)
	if limiter == nil {
		return nil
	}
	if ctx := s.Context(); limiter.Wait(ctx) != nil {
		// It sees beforehand that the deadline will pass.
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}
