package cluster_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
)

// countingSink discards everything, and counts the pieces. An event is one piece.
type countingSink struct{ pieces *atomic.Int64 }

func (s countingSink) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	s.pieces.Add(int64(len(pieces)))
	return n, nil
}

func (countingSink) Close(broker.Reason) {}

// BenchmarkBroadcast measures the delivery of a broadcast to a sink, both by a
// broker alone and through a standalone node. An operation is one delivery.
func BenchmarkBroadcast(b *testing.B) {
	const streams = 10_000
	measure := func(b *testing.B, bk *broker.Broker, publish func(context.Context, broker.Message) (broker.Receipt, error)) {
		b.Helper()
		var pieces atomic.Int64
		for i := range streams {
			if err := bk.NewStream(broker.Subscription{User: fmt.Sprint("user", i)}).Start(countingSink{&pieces}, broker.Opening{}); err != nil {
				b.Fatal(err)
			}
		}
		await := func(n int64) {
			for start := time.Now(); pieces.Load() < n; runtime.Gosched() {
				if time.Since(start) > patience {
					b.Fatalf("%d of %d pieces delivered", pieces.Load(), n)
				}
			}
		}
		await(streams) // the position marks
		m := toAll(strings.Repeat("x", 100))
		b.ReportAllocs()
		b.ResetTimer()
		for n := 0; n < b.N; n += streams {
			before := pieces.Load()
			if _, err := publish(b.Context(), m); err != nil {
				b.Fatal(err)
			}
			await(before + streams)
		}
	}

	b.Run("off", func(b *testing.B) {
		cfg := brokerConfig()
		cfg.Replica = false
		bk := broker.New(cfg)
		defer bk.Close()
		measure(b, bk, bk.Publish)
	})

	b.Run("one", func(b *testing.B) {
		m := startAll(b, 1)[0]
		measure(b, m.broker, m.Publish)
	})
}

// BenchmarkApplyWithoutRecipients measures decoding and applying messages for users
// who have no stream on the node. An operation is one message.
func BenchmarkApplyWithoutRecipients(b *testing.B) {
	node := startAll(b, 1)[0]
	const batch = 512
	data := node.EncodeBatch(b, "", batch, func(i int) broker.Message {
		return toUser(fmt.Sprint("user", i), strings.Repeat("x", 100))
	})
	b.ReportAllocs()
	b.ResetTimer()
	entry := uint64(1_000_000)
	for n := 0; n < b.N; n += batch {
		entry++
		node.ApplyEntry(b, entry, time.Now(), data)
	}
}

// BenchmarkPublish measures how fast messages are acknowledged by clusters of one and
// three nodes in this process, with and without syncing the event log.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 3} {
		for _, sync := range []bool{false, true} {
			b.Run(fmt.Sprintf("nodes=%d,sync=%t", n, sync), func(b *testing.B) {
				var members []*member
				for _, cfg := range configs(b, n) {
					cfg.Embedded.Sync = sync
					members = append(members, start(b, cfg))
				}
				serving(b, members...)
				m := toAll(strings.Repeat("x", 100))
				type wait = func(context.Context) (broker.Receipt, error)
				waits := make(chan wait, 256) // the maximum number of messages in flight in a PublishStream
				done := make(chan error, 1)
				go func() {
					for wait := range waits {
						if _, err := wait(context.Background()); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
				b.ResetTimer()
				for b.Loop() {
					wait, err := members[0].Submit(b.Context(), m)
					if err != nil {
						b.Fatal(err)
					}
					waits <- wait
				}
				close(waits)
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkPublishRetained compares messages that are retained with others, on a node and
// in a cluster of three, to 1,000 topics in turn and with 64 publishers. Snapshots of the
// values are saved in the meantime.
func BenchmarkPublishRetained(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		members := startAll(b, nodes)
		for _, retain := range []bool{false, true, false, true} {
			b.Run(fmt.Sprintf("nodes=%d/retain=%v", nodes, retain), func(b *testing.B) {
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ReportAllocs()
				b.ResetTimer()
				var publishing sync.WaitGroup
				for range 64 {
					publishing.Go(func() {
						for n := left.Add(-1); n >= 0; n = left.Add(-1) {
							m := broker.Message{Audience: broker.ToTopic(fmt.Sprint("topic", n%1000)), Data: strings.Repeat("x", 100), Retain: retain}
							if _, err := members[0].Publish(b.Context(), m); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				publishing.Wait()
			})
		}
	}
}
