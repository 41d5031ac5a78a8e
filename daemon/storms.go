package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// stormRate is how many connections in a stormTick make a storm, and
	// calmRate how few its end.
	stormRate = 100
	calmRate  = 20
	stormTick = 100 * time.Millisecond
	stormCalm = 10 // ticks of calm until what a storm left is given back

	// stormGarbage is how far the heap may grow between two collections while
	// a storm lasts.
	stormGarbage = 32 << 20
)

// tuneMemory has garbage collected more seldom in a storm of connections, and
// memory given back after it, until ctx ends.
//
// A connection leaves net/http's buffers behind, some 12 KB, in a heap of which
// little is alive: collections that are paced by what is alive follow one
// another, and cost a fifth of what a connection does. What the storm leaves
// would stay with the process for minutes, where idle streams hold less.
func tuneMemory(ctx context.Context, accepted func() int64) {
	tick := time.NewTicker(stormTick)
	defer tick.Stop()
	usual, storm := 0, false
	calm := 0
	for before := accepted(); ; {
		select {
		case <-ctx.Done():
			if storm {
				debug.SetGCPercent(usual)
			}
			return
		case <-tick.C:
		}
		now := accepted()
		came := now - before
		before = now
		switch {
		case came >= stormRate:
			calm = 0
			previous := debug.SetGCPercent(stormPercent())
			if !storm {
				usual, storm = previous, true
			}
		case storm && came < calmRate:
			if calm++; calm == stormCalm {
				debug.SetGCPercent(usual)
				debug.FreeOSMemory()
				storm, calm = false, 0
			}
		}
	}
}

// stormPercent is the growth between two collections that leaves stormGarbage,
// as a share of what was alive after the last.
func stormPercent() int {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	live := max(sample[0].Value.Uint64(), 1<<20)
	return int(max(stormGarbage*100/live, 50))
}
