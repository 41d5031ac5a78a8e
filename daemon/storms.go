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

	// giveBackTick is how often is looked whether memory is to be given back:
	// where the process has a quarter and giveBackLeast more than after the
	// last time.
	giveBackTick  = 8 * time.Second
	giveBackLeast = 16 << 20
)

// tuneMemory has garbage collected more seldom in a storm of connections, and
// memory given back after it and when much has become garbage, until ctx ends.
//
// A connection leaves net/http's buffers behind, some 12 KB, in a heap of which
// little is alive: collections that are paced by what is alive follow one
// another, and cost a fifth of what a connection does. What the storm leaves
// would stay with the process for minutes, where idle streams hold less; and so
// would what a crowd of slow clients had waiting for it, since a daemon that is
// idle collects nothing.
func tuneMemory(ctx context.Context, accepted func() int64) {
	tick := time.NewTicker(stormTick)
	defer tick.Stop()
	giveBack := time.NewTicker(giveBackTick)
	defer giveBack.Stop()
	usual, storm := 0, false
	calm := 0
	least := resident()
	for before := accepted(); ; {
		select {
		case <-ctx.Done():
			if storm {
				debug.SetGCPercent(usual)
			}
			return
		case <-giveBack.C:
			if !storm && resident() > least+least/4+giveBackLeast {
				debug.FreeOSMemory()
				least = resident()
			}
			continue
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
				storm, calm, least = false, 0, resident()
			}
		}
	}
}

// resident is the memory that the runtime has and has not given back.
func resident() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// stormPercent is the growth between two collections that leaves stormGarbage,
// as a share of what was alive after the last.
func stormPercent() int {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	live := max(sample[0].Value.Uint64(), 1<<20)
	return int(max(stormGarbage*100/live, 50))
}
