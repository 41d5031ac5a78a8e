package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// A burst starts with at least burstRate connections in a burstTick. It ends after
	// calmTicks ticks with fewer than calmRate.
	burstRate = 100
	calmRate  = 20
	burstTick = 100 * time.Millisecond
	calmTicks = 10 // after these, a burst's memory is returned

	// burstGarbage limits the growth of the heap between two collections during
	// a burst, in bytes.
	burstGarbage = 32 << 20

	// Every returnTick, memory is returned to the system if the process holds more than
	// it did after the last return, by at least a quarter plus returnAtLeast bytes.
	returnTick    = 8 * time.Second
	returnAtLeast = 16 << 20
)

// tuneMemory makes the garbage collector run less often during a burst of connections.
// It returns memory to the system after a burst, and when much of it has become
// garbage. It runs until ctx ends. accepted returns the number of connections accepted
// so far.
//
// Each connection leaves behind the buffers of its request or handshake, about 12 KB
// with net/http, in a heap with little live memory. If live memory set the pace,
// collections would run in quick succession and account for a fifth of the cost of a
// connection. After a burst, the process would keep the memory for minutes, although
// idle streams need less. The same applies to the queues of many slow clients, because
// an idle daemon doesn't collect garbage.
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

// resident returns the number of bytes that the runtime has obtained from the system
// and hasn't returned.
func resident() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)

	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// burstPercent returns the garbage collection percentage that lets the heap grow by
// burstGarbage, based on the live memory after the last collection.
func burstPercent() int {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	live := max(sample[0].Value.Uint64(), 1<<20)

	return int(max(burstGarbage*100/live, 50))
}
