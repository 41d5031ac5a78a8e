package daemon

import (
	"context"
	"fmt"
	"sync"
)

// group runs a daemon's goroutines and records the first failure.
type group struct {
	running sync.WaitGroup

	failOnce sync.Once
	failed   chan struct{} // closed by fail
	failure  error         // set before failed is closed
}

func newGroup() *group { return &group{failed: make(chan struct{})} }

// start runs f in a goroutine, with a context that ends when ctx ends or stop is
// called. If f returns an error, the group fails with it, prefixed by name.
func (g *group) start(ctx context.Context, name string, f func(context.Context) error) (stop context.CancelFunc) {
	ctx, stop = context.WithCancel(ctx)

	g.running.Go(func() {
		defer stop()

		if err := f(ctx); err != nil {
			g.fail(fmt.Errorf("%s: %w", name, err))
		}
	})

	return stop
}

// fail records the group's failure. Only the first one counts.
func (g *group) fail(err error) {
	g.failOnce.Do(func() {
		g.failure = err
		close(g.failed)
	})
}

// err returns the first failure so far, or nil.
func (g *group) err() error {
	select {
	case <-g.failed:
		return g.failure
	default:
		return nil
	}
}

// wait waits for all goroutines to finish.
func (g *group) wait() { g.running.Wait() }
