package broker

import (
	"fmt"
	"testing"
)

// nothingSink accepts everything.
type nothingSink struct{}

func (nothingSink) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	return n, nil
}

func (nothingSink) Close(Reason) {}

// BenchmarkLockOfSubscribers measures how long the lock is held to list 100,000
// subscribers, compared to an event for them.
func BenchmarkLockOfSubscribers(b *testing.B) {
	for name, topic := range map[string]string{"by name": "orders.new", "by pattern": "orders.*"} {
		bk := New(Config{Shards: 2, QueueBytes: 1 << 20, SlowConsumer: Disconnect, Heartbeat: 15e9, Retry: 3e9, WriteTimeout: 30e9})
		defer bk.Close()
		for i := range 100_000 {
			if err := bk.NewStream(Subscription{User: fmt.Sprint("user", i), Topics: []string{topic}}).Start(nothingSink{}, Opening{}); err != nil {
				b.Fatal(err)
			}
		}
		b.Run("list "+name, func(b *testing.B) {
			for b.Loop() {
				found := &foundSubscribers{topic: "orders.new"}
				lists := make(chan []*Stream, len(bk.shards))
				awaited, err := bk.startFinding(found, lists, nil)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				for range awaited {
					<-lists
				}
				b.StartTimer()
			}
		})
		b.Run("publish "+name, func(b *testing.B) {
			for b.Loop() {
				e := &event{audience: ToTopic("orders.new")}
				bk.mu.Lock()
				bk.seq++
				e.seq = bk.seq
				n, _ := bk.topics.subscribers(e, bk.shards, nil)
				bk.mu.Unlock()
				if n != 100_000 {
					b.Fatal(n)
				}
			}
		})
	}
}
