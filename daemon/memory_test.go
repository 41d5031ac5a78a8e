package daemon_test

import (
	"context"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/daemon"
)

// TestGarbageCollectionDuringBursts simulates exact rates of connections, which a
// busy machine can't produce.
func TestGarbageCollectionDuringBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accepted atomic.Int64

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})

		go func() {
			defer close(done)

			daemon.TuneMemory(ctx, accepted.Load)
		}()

		// connect accepts connections at the given rate per second for the given
		// time.
		connect := func(rate int64, lasts time.Duration) {
			const step = 10 * time.Millisecond
			for range lasts / step {
				accepted.Add(rate * int64(step) / int64(time.Second))
				time.Sleep(step)
			}

			synctest.Wait()
		}

		normal := collectorPercent()

		for _, stage := range []struct {
			name  string
			rate  int64
			lasts time.Duration
			burst bool
		}{
			{"quiet", 0, time.Minute, false},
			{"busy", 500, 10 * time.Second, false},
			{"burst", 5000, time.Second, true},
			{"slow end of the burst", 500, 10 * time.Second, true},
			{"short calm", 0, 500 * time.Millisecond, true},
			{"burst again", 5000, time.Second, true},
			{"calm", 100, 2 * time.Second, false},
			{"second burst", 2000, time.Second, true},
		} {
			connect(stage.rate, stage.lasts)

			if got := collectorPercent(); (got > normal) != stage.burst {
				t.Errorf("%s: the GC percent is %d, normally %d; want more during bursts only", stage.name, got, normal)
			}
		}

		cancel()
		<-done

		if got := collectorPercent(); got != normal {
			t.Errorf("at the end, the GC percentage is %d, want %d as before", got, normal)
		}
	})
}

// collectorPercent returns the garbage collector's percentage.
func collectorPercent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)

	return sample[0].Value.Uint64()
}
