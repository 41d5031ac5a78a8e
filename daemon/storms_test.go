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

// TestGarbageIsCollectedSeldomInAStorm counts connections at rates that no
// loaded machine can be made to keep.
func TestGarbageIsCollectedSeldomInAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accepted atomic.Int64

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})

		go func() {
			defer close(done)

			daemon.TuneMemory(ctx, accepted.Load)
		}()

		// come accepts so many connections a second for a while.
		come := func(rate int64, lasts time.Duration) {
			const step = 10 * time.Millisecond
			for range lasts / step {
				accepted.Add(rate * int64(step) / int64(time.Second))
				time.Sleep(step)
			}

			synctest.Wait()
		}

		usual := collectorPercent()

		for _, stage := range []struct {
			name  string
			rate  int64
			lasts time.Duration
			storm bool
		}{
			{"quiet", 0, time.Minute, false},
			{"busy", 500, 10 * time.Second, false},
			{"a storm", 5000, time.Second, true},
			{"its second half", 500, 10 * time.Second, true},
			{"a moment of calm", 0, 500 * time.Millisecond, true},
			{"the storm again", 5000, time.Second, true},
			{"calm", 100, 2 * time.Second, false},
			{"another storm", 2000, time.Second, true},
		} {
			come(stage.rate, stage.lasts)

			if got := collectorPercent(); (got > usual) != stage.storm {
				t.Errorf("%s: the collector's percent is %d, usually %d; want more in a storm only", stage.name, got, usual)
			}
		}

		cancel()
		<-done

		if got := collectorPercent(); got != usual {
			t.Errorf("after the daemon the collector's percent is %d, want %d as before", got, usual)
		}
	})
}

// collectorPercent returns the growth of the heap between two collections.
func collectorPercent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)

	return sample[0].Value.Uint64()
}
