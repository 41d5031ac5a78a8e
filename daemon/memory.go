package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// At least burstRate connections in a burstTick start a burst. Fewer than
	// calmRate end it.
	burstRate = 100
	calmRate  = 20
	burstTick = 100 * time.Millisecond
	calmTicks = 10 // calm ticks until the memory of a burst is returned

	// burstGarbage limits the growth of the heap between two collections during
	// a burst, in bytes.
	burstGarbage = 32 << 20

	// Every returnTick, memory is returned to the system if the process holds
	// at least returnAtLeast bytes plus a quarter more than after the last
	// return.
	returnTick    = 8 * time.Second
	returnAtLeast = 16 << 20
)

// tuneMemory makes the garbage collector run less often during a burst of
// connections. It returns memory to the system after a burst, and when much of
// it has become garbage. It runs until ctx ends; accepted returns the number of
// connections since the daemon started.
//
// Each connection leaves the buffers of its request or handshake behind, about 12
// KB with net/http, in a heap with little live memory. If live memory set the
// pace, collections would run in quick succession and account for a fifth of the
// cost of a connection. After the burst, its memory would stay with the process
// for minutes, although idle streams need less. The same is true of the queues of
// many slow clients, because an idle daemon doesn't collect garbage.
func tuneMemory(ctx context.Context, accepted func() int64) {
	tick := time.NewTicker(burstTick)
	defer tick.Stop()
	giveBack := time.NewTicker(returnTick)
	defer giveBack.Stop()

	normalPercent, burst := 0, false
	calm := 0
	least := resident()

	for before := accepted(); ; {
		select {
		case <-ctx.Done():
			if burst {
				debug.SetGCPercent(normalPercent)
			}
			return

		case <-giveBack.C:
			if !burst && resident() > least+least/4+returnAtLeast {
				debug.FreeOSMemory()
				least = resident()
			}
			continue

		case <-tick.C:
		}

		now := accepted()
		connects := now - before
		before = now

		switch {
		case connects >= burstRate:
			calm = 0
			previous := debug.SetGCPercent(burstPercent())
			if !burst {
				normalPercent, burst = previous, true
			}

		case burst && connects < calmRate:
			if calm++; calm == calmTicks {
				debug.SetGCPercent(normalPercent)
				debug.FreeOSMemory()
				burst, calm, least = false, 0, resident()
			}
		}
	}
}

// resident returns the number of bytes that the runtime has obtained from the
// system and not returned.
func resident() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)

	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// burstPercent returns the garbage collection percentage that lets the heap grow by
// burstGarbage, given the live memory after the last collection.
func burstPercent() int {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	live := max(sample[0].Value.Uint64(), 1<<20)

	return int(max(burstGarbage*100/live, 50))
}
