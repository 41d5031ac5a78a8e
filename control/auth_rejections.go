package control

import (
	"context"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/peald/peald/control/apierror"
)

const (
	// rejectionsPerSecond is the maximum rate at which rejected calls are logged, and
	// rejectionBurst is the maximum number logged at once. Attempts to guess tokens
	// must be visible, but must not fill the disk.
	rejectionsPerSecond = 1
	rejectionBurst      = 5
)

// rejectionLog limits the rate at which unauthenticated calls are logged.
type rejectionLog struct {
	limiter  *rate.Limiter
	unlogged atomic.Int64 // rejected calls since the last one that was logged
}

func newRejectionLog() *rejectionLog {
	return &rejectionLog{limiter: rate.NewLimiter(rejectionsPerSecond, rejectionBurst)}
}

// warn logs a rejected call, unless the rate limit is exceeded.
func (r *rejectionLog) warn(ctx context.Context, log *slog.Logger, method string, rejected *apierror.Error) {
	if !r.limiter.Allow() {
		r.unlogged.Add(1)

		return
	}

	log.WarnContext(ctx, "control call rejected", withTrace(ctx, []any{
		"reason", rejected.Reason, "method", shortName(method), "peer", peerOf(ctx), "unlogged", r.unlogged.Swap(0),
	})...)
}
