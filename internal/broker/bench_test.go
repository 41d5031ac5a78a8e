package broker_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/peald/peald/internal/broker"
)

// sponge is a sink that takes everything and counts the pieces: an event is one.
type sponge struct{ pieces *atomic.Int64 }

func (s sponge) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	s.pieces.Add(int64(len(pieces)))
	return n, nil
}

func (sponge) Close(broker.Reason) {}

// crowd opens n streams of as many users, and returns how many pieces they got.
func crowd(b *testing.B, bk *broker.Broker, n int) *atomic.Int64 {
	b.Helper()
	var pieces atomic.Int64
	for i := range n {
		if err := bk.NewStream(broker.Subscription{User: fmt.Sprint("user", i)}).Start(sponge{&pieces}, broker.Opening{}); err != nil {
			b.Fatal(err)
		}
	}
	for pieces.Load() < int64(n) { // the first blocks
		runtime.Gosched()
	}
	return &pieces
}

// BenchmarkSendToUser shows that the cost of an event for one user doesn't
// depend on how many others hold streams.
func BenchmarkSendToUser(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bk := broker.New(config())
			defer bk.Close()
			crowd(b, bk, n)
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

// BenchmarkPublishToTopic shows that the cost of an event for a topic depends on
// its subscribers alone, of whom there are ten, half of them by a pattern.
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

// BenchmarkResume shows that a resume costs what it replays, 20 events here,
// and not what the log holds.
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

// BenchmarkDelivery is what one delivery of a broadcast costs up to its sink:
// an operation is a delivery, so allocations that are a message's and not a
// delivery's come out as 0.
func BenchmarkDelivery(b *testing.B) {
	const streams = 10_000
	bk := broker.New(config())
	defer bk.Close()
	taken := crowd(b, bk, streams)
	m := broker.Message{Audience: broker.Everyone(), Data: strings.Repeat("x", 100)}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += streams {
		before := taken.Load()
		if _, err := bk.Publish(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		for taken.Load() < before+streams {
			runtime.Gosched()
		}
	}
}

// BenchmarkPublishToNobody is the publisher's side alone.
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

// BenchmarkPublishTapped is the same with taps that nobody reads, of other
// audiences but one.
func BenchmarkPublishTapped(b *testing.B) {
	bk := broker.New(config())
	defer bk.Close()
	for _, of := range []broker.Audience{broker.Everyone(), broker.ToUser("alice"), broker.ToTopic("prices.*")} {
		tap, err := bk.Tap(of, "")
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
