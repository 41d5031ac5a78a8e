package broker_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
)

// sponge is a sink that accepts everything and counts the pieces, one per event.
type sponge struct{ pieces *atomic.Int64 }

func (s sponge) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	s.pieces.Add(int64(len(pieces)))
	return n, nil
}

func (sponge) Close(broker.Reason) {}

// openStreams opens n streams for n users, and returns a counter for the pieces
// that they have received.
func openStreams(b *testing.B, bk *broker.Broker, n int) *atomic.Int64 {
	b.Helper()
	return openStreamsAs(b, bk, n, broker.Opening{})
}

func openStreamsAs(b *testing.B, bk *broker.Broker, n int, form broker.Opening) *atomic.Int64 {
	b.Helper()
	return openStreamsIn(b, bk, n, func(int) broker.Opening { return form })
}

func openStreamsIn(b *testing.B, bk *broker.Broker, n int, form func(stream int) broker.Opening) *atomic.Int64 {
	b.Helper()
	var pieces atomic.Int64
	for i := range n {
		if err := bk.NewStream(broker.Subscription{User: fmt.Sprint("user", i)}).Start(sponge{&pieces}, form(i)); err != nil {
			b.Fatal(err)
		}
	}
	for pieces.Load() < int64(n) { // until all have their first block
		runtime.Gosched()
	}
	return &pieces
}

// BenchmarkSendToUser shows that the cost of an event for one user doesn't depend
// on the number of other users.
func BenchmarkSendToUser(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bk := broker.New(config())
			defer bk.Close()
			openStreams(b, bk, n)
			m := broker.Message{Audience: broker.ToUser("user7"), Data: strings.Repeat("x", 100)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bk.Publish(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPublishToTopic shows that the cost of an event for a topic depends only
// on its subscribers. There are ten, half of them with a pattern.
func BenchmarkPublishToTopic(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bk := broker.New(config())
			defer bk.Close()
			var bytes atomic.Int64
			for i := range n {
				sub := broker.Subscription{Topics: []string{fmt.Sprint("other.", i)}}
				switch {
				case i < 5:
					sub.Topics = []string{"prices.eur"}
				case i < 10:
					sub.Topics = []string{"prices.*"}
				}
				if err := bk.NewStream(sub).Start(sponge{&bytes}, broker.Opening{}); err != nil {
					b.Fatal(err)
				}
			}
			m := broker.Message{Audience: broker.ToTopic("prices.eur"), Data: strings.Repeat("x", 100)}
			b.ReportAllocs()
			for b.Loop() {
				r, err := bk.Publish(b.Context(), m)
				if err != nil || r.Recipients != 10 {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// BenchmarkResume shows that the cost of a resume depends on the number of events
// it replays, which is 20 here, and not on the size of the history.
func BenchmarkResume(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cfg := config()
			cfg.History = broker.History{MaxEvents: n, MaxBytes: 1 << 30}
			bk := broker.New(cfg)
			defer bk.Close()
			first, err := bk.Publish(b.Context(), broker.Message{Audience: broker.Everyone(), Data: "x"})
			if err != nil {
				b.Fatal(err)
			}
			for i := range n - 1 {
				user := "other"
				if i%(n/20) == 0 {
					user = "alice"
				}
				if _, err := bk.Publish(b.Context(), broker.Message{Audience: broker.ToUser(user), Data: "x"}); err != nil {
					b.Fatal(err)
				}
			}
			var bytes atomic.Int64
			b.ReportAllocs()
			for b.Loop() {
				st := bk.NewStream(broker.Subscription{User: "alice", LastEventID: first.ID})
				before := bk.Stats().Total.Delivered
				if err := st.Start(sponge{&bytes}, broker.Opening{}); err != nil {
					b.Fatal(err)
				}
				for bk.Stats().Total.Delivered < before+20 {
					runtime.Gosched()
				}
				st.HangUp()
			}
		})
	}
}

// BenchmarkDelivery measures the delivery of a broadcast to a sink. One operation
// is one delivery, so allocations per message are reported as 0.
func BenchmarkDelivery(b *testing.B) {
	benchmarkDelivery(b, strings.Repeat("x", 100), broker.Opening{})
}

// BenchmarkDeliveryByForm compares streams with and without gzip.
func BenchmarkDeliveryByForm(b *testing.B) {
	for _, n := range []int{100, 2000} {
		for name, form := range forms() {
			b.Run(fmt.Sprint(n, " bytes, ", name), func(b *testing.B) { benchmarkDelivery(b, orders(n), form) })
		}
	}
}

// orders returns n bytes of JSON.
func orders(n int) string {
	random := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	for text.Len() < n {
		fmt.Fprintf(&text, `{"order":%d,"customer":"user-%d","price":%d.99,"currency":"EUR","status":"shipped"},`,
			random.IntN(1e6), random.IntN(1e5), random.IntN(1e4))
	}
	return text.String()[:n]
}

func benchmarkDelivery(b *testing.B, data string, form broker.Opening) {
	b.Helper()
	benchmarkDeliveryTo(b, data, func(int) broker.Opening { return form })
}

// benchmarkStreams is the number of streams of benchmarkDeliveryTo.
const benchmarkStreams = 10_000

func benchmarkDeliveryTo(b *testing.B, data string, form func(stream int) broker.Opening) {
	b.Helper()
	const streams = benchmarkStreams
	bk := broker.New(config())
	defer bk.Close()
	pieces := openStreamsIn(b, bk, streams, form)
	m := broker.Message{Audience: broker.Everyone(), Data: data}
	before := bk.Stats().Total
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += streams {
		until := pieces.Load() + streams
		if _, err := bk.Publish(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		for pieces.Load() < until {
			runtime.Gosched()
		}
	}
	after := bk.Stats().Total
	b.ReportMetric(float64(after.Bytes-before.Bytes)/float64(after.Delivered-before.Delivered), "bytes/delivery")
}

// BenchmarkPublishToNobody measures publishing without recipients.
func BenchmarkPublishToNobody(b *testing.B) {
	bk := broker.New(config())
	defer bk.Close()
	m := broker.Message{Audience: broker.Everyone(), Data: strings.Repeat("x", 100)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bk.Publish(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPublishToMany shows that the cost of publishing with a full history doesn't
// depend on the number of audiences that it holds events for.
func BenchmarkPublishToMany(b *testing.B) {
	for _, n := range []int{1, 1000, 200_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cfg := config()
			cfg.History = broker.History{MaxEvents: 100_000, MaxBytes: 1 << 30, MaxAge: time.Hour}
			bk := broker.New(cfg)
			defer bk.Close()
			messages := make([]broker.Message, n)
			for i := range messages {
				messages[i] = broker.Message{Audience: broker.ToTopic(fmt.Sprint("topic.", i)), Data: strings.Repeat("x", 100)}
			}
			next := 0
			send := func() {
				if _, err := bk.Publish(b.Context(), messages[next]); err != nil {
					b.Fatal(err)
				}
				next = (next + 1) % n
			}
			for range cfg.History.MaxEvents {
				send()
			}
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
		})
	}
}

// BenchmarkPublishTapped measures publishing with three unread taps, of which one
// observes the published messages.
func BenchmarkPublishTapped(b *testing.B) {
	bk := broker.New(config())
	defer bk.Close()
	for _, audience := range []broker.Audience{broker.Everyone(), broker.ToUser("alice"), broker.ToTopic("prices.*")} {
		tap, err := bk.Tap(audience, "")
		if err != nil {
			b.Fatal(err)
		}
		defer tap.Close()
	}
	m := broker.Message{Audience: broker.Everyone(), Data: strings.Repeat("x", 100)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bk.Publish(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPublishRetained compares messages that are retained with others, for 1,000
// topics in turn.
func BenchmarkPublishRetained(b *testing.B) {
	for _, retain := range []bool{false, true} {
		b.Run(fmt.Sprint("retain=", retain), func(b *testing.B) {
			cfg := withHistory()
			cfg.History = broker.History{MaxEvents: 10_000, MaxBytes: 64 << 20}
			cfg.Retain = broker.Retain{MaxEvents: 100_000, MaxBytes: 64 << 20}
			bk := broker.New(cfg)
			defer bk.Close()
			var messages []broker.Message
			for i := range 1000 {
				m := toTopic(fmt.Sprint("topic", i), strings.Repeat("x", 100))
				m.Retain = retain
				messages = append(messages, m)
			}
			for i := range 20_000 {
				if _, err := bk.Publish(b.Context(), messages[i%1000]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := bk.Publish(b.Context(), messages[i%1000]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// markSink discards everything and reports position marks.
type markSink chan struct{}

func (s markSink) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
		if bytes.Contains(p, []byte("peald.mark")) {
			s <- struct{}{}
		}
	}
	return n, nil
}

func (markSink) Close(broker.Reason) {}

// BenchmarkStartRetained opens streams that get one retained value, out of up to 100,000,
// or none, and waits for their position marks.
func BenchmarkStartRetained(b *testing.B) {
	hundred := make([]string, broker.MaxTopics)
	for i := range hundred {
		hundred[i] = fmt.Sprintf("*.%d.other", i)
	}
	for _, c := range []struct {
		name   string
		values int
		topics []string
	}{
		{"none", 0, []string{"topic.7.news"}},
		{"one", 1, []string{"topic.0.news"}},
		{"one of 10,000", 10_000, []string{"topic.7.news"}},
		{"pattern, one of 10,000", 10_000, []string{"topic.7.*"}},
		{"pattern, one of 100,000", 100_000, []string{"topic.7.*"}},
		{"pattern, none of 100,000", 100_000, []string{"topic.*.other"}},
		{"100 patterns, none of 100,000", 100_000, hundred},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := withHistory()
			cfg.Retain = broker.Retain{MaxEvents: 100_000, MaxBytes: 128 << 20}
			bk := broker.New(cfg)
			defer bk.Close()
			for i := range c.values {
				m := toTopic(fmt.Sprintf("topic.%d.news", i), strings.Repeat("x", 100))
				m.Retain = true
				if _, err := bk.Publish(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
			marked := make(markSink)
			b.ReportAllocs()
			for b.Loop() {
				st := bk.NewStream(broker.Subscription{Topics: c.topics})
				if err := st.Start(marked, broker.Opening{}); err != nil {
					b.Fatal(err)
				}
				<-marked
				st.HangUp()
			}
		})
	}
}

// BenchmarkReadMessages reads a page of 100 messages in the middle of a full history.
func BenchmarkReadMessages(b *testing.B) {
	cfg := withHistory()
	cfg.History = broker.History{MaxEvents: 100_000, MaxBytes: 128 << 20}
	br := broker.New(cfg)
	defer br.Close()
	var middle string
	for i := range 100_000 {
		r, err := br.Publish(b.Context(), toTopic(fmt.Sprint(i%10), strings.Repeat("x", 100)))
		if err != nil {
			b.Fatal(err)
		}
		if i == 50_000 {
			middle = r.ID
		}
	}
	q := broker.Read{Audience: broker.ToTopic("3"), After: middle, Limit: 100}
	b.ReportAllocs()
	for b.Loop() {
		if page, err := br.ReadMessages(b.Context(), q); err != nil || len(page.Messages) != q.Limit {
			b.Fatalf("%d messages, %v", len(page.Messages), err)
		}
	}
}
