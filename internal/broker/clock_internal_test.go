package broker

import (
	"testing"
	"time"
)

// TestShardsDontFollowTheTimeOfDay holds that what a shard waits for is counted
// from the broker's start: a clock that is set back would hold it up.
func TestShardsDontFollowTheTimeOfDay(t *testing.T) {
	b := New(Config{Shards: 1, QueueBytes: 1 << 20, SlowConsumer: Disconnect, Heartbeat: 15 * time.Second, WriteTimeout: time.Minute})
	b.Close()
	if now := b.shards[0].now; now <= 0 || now > int64(24*time.Hour) {
		t.Errorf("a shard's time is %d, want nanoseconds since the broker started", now)
	}
}
