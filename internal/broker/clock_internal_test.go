package broker

import (
	"testing"
	"time"
)

// TestShardsUseSteadyTime checks that a shard measures time from the start of the
// broker. If it used the wall clock, setting the clock back would delay its timers.
func TestShardsUseSteadyTime(t *testing.T) {
	b := New(Config{Shards: 1, QueueBytes: 1 << 20, SlowConsumer: Disconnect, Heartbeat: 15 * time.Second, WriteTimeout: time.Minute})
	b.Close()
	if now := b.shards[0].now; now <= 0 || now > int64(24*time.Hour) {
		t.Errorf("the shard's time is %d, want nanoseconds since the broker started", now)
	}
}
