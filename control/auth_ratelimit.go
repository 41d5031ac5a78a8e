package control

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/control/rest"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// maxNames is the maximum number of caller names with a limiter. It is needed because a
// certificate authority may issue a new name to each process. Beyond it, the name that
// has been idle the longest is evicted. On its next call, that name starts with a full
// burst, which it would have regained after a second without calls anyway.
const maxNames = 10_000

// rateLimits limits the calls per second for each caller name. Callers without a name
// share one limit.
type rateLimits struct {
	perSecond atomic.Int64 // 0 for no limit; mu must be held to write it

	mu     sync.Mutex
	byName *simplelru.LRU[string, *rate.Limiter]
}

func newRateLimits() *rateLimits {
	byName, err := simplelru.NewLRU[string, *rate.Limiter](maxNames, nil)
	if err != nil {
		panic(err) // only if maxNames isn't positive
	}

	return &rateLimits{byName: byName}
}

// set changes the limit for all callers.
func (l *rateLimits) set(perSecond int) {
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

// limit returns the maximum number of calls per second, or 0 if there is no limit.
func (l *rateLimits) limit() int { return int(l.perSecond.Load()) }

// limiter returns the limiter for c's calls to method, or nil.
func (l *rateLimits) limiter(c caller, method string) *rate.Limiter {
	if l.perSecond.Load() == 0 || !isControlMethod(method) {
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

// take counts a call against the limit as the given number of calls, or rejects it if it
// exceeds the limit.
func (l *rateLimits) take(c caller, method string, calls int) error {
	limiter := l.limiter(c, method)
	if limiter == nil {
		return nil
	}

	if burst := limiter.Burst(); calls > burst {
		return apierror.New(codes.ResourceExhausted, apierror.ReasonRateLimit, fmt.Sprintf(
			"a batch of %d messages exceeds %d calls per second (control.rate_limit); send at most that many at once", calls, burst))
	}

	reservation := limiter.ReserveN(time.Now(), calls)

	wait := reservation.Delay()
	if wait <= 0 {
		return nil
	}

	reservation.Cancel()

	rejected := apierror.New(codes.ResourceExhausted, apierror.ReasonRateLimit, fmt.Sprintf(
		"caller %q exceeds %d calls per second (control.rate_limit)", c.name, limiter.Burst()))
	rejected.RetryAfter = wait

	return rejected
}

// callsOf returns the number of calls that a request counts as: each message in a batch
// counts. A batch that is too long counts once, since it is rejected.
func callsOf(req any) int {
	if batch, ok := req.(*pealv1.PublishBatchRequest); ok && len(batch.GetMessages()) <= rest.MaxBatch {
		return max(1, len(batch.GetMessages()))
	}

	return 1
}

// pacedStream delays the messages in a PublishStream to keep its caller within the
// limit. gRPC's flow control then slows the caller down.
type pacedStream struct {
	grpc.ServerStream

	limits *rateLimits
	caller caller
}

// RecvMsg implements [grpc.ServerStream].
func (s pacedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}

	// The limit may change between messages.
	limiter := s.limits.limiter(s.caller, pealv1.ControlService_PublishStream_FullMethodName)
	if limiter == nil {
		return nil
	}

	if ctx := s.Context(); limiter.Wait(ctx) != nil {
		// Wait fails immediately if the deadline would pass before it could return.
		<-ctx.Done()

		return ctx.Err()
	}

	return nil
}
