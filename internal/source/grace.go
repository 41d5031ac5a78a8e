package source

import (
	"context"
	"time"
)

// WithGrace returns a context that ends when stop is called, or d after ctx has ended.
// With it, a Reader that is stopped acknowledges what has already been published. The
// caller must call stop.
func WithGrace(ctx context.Context, d time.Duration) (grace context.Context, stop context.CancelFunc) {
	grace, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	finished := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(finished)

		select {
		case <-grace.Done():
		case <-time.After(d):
			cancel(context.Cause(ctx))
		}
	})

	return grace, func() {
		cancel(nil)
		if !unregister() {
			<-finished
		}
	}
}
