package broker_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
)

// BenchmarkStart starts streams with the 20 events that a history holds for them, among
// events for other topics. If a stream names its topics, the cost doesn't depend on the
// size of the history. With a pattern, it depends on the number of topics or of events,
// whichever is smaller.
func BenchmarkStart(b *testing.B) {
	for _, size := range []struct{ events, topics int }{{1_000, 100}, {100_000, 100}, {100_000, 1_500}, {100_000, 20_000}} {
		cfg := config()
		cfg.History = broker.History{MaxEvents: size.events, MaxBytes: 1 << 30}
		bk := broker.New(cfg)
		began := time.Now()
		for i := range size.events {
			topic := fmt.Sprint("other.", i%size.topics)
			if i%(size.events/20) == 0 {
				topic = "wanted.x"
			}
			if _, err := bk.Publish(b.Context(), broker.Message{Audience: broker.ToTopic(topic), Data: "x"}); err != nil {
				b.Fatal(err)
			}
		}
		starts := []struct {
			name  string
			start broker.Start
		}{{"all", broker.SinceAll()}, {"time", broker.SinceTime(began)}, {"rewind", broker.Rewind(20)}}
		for _, s := range starts {
			for _, topic := range []string{"wanted.x", "wanted.*"} {
				b.Run(fmt.Sprintf("%d events of %d topics/%s/%s", size.events, size.topics, s.name, topic), func(b *testing.B) {
					benchmarkStart(b, bk, broker.Subscription{Topics: []string{topic}, Start: s.start})
				})
			}
		}
		bk.Close()
	}
}

func benchmarkStart(b *testing.B, bk *broker.Broker, sub broker.Subscription) {
	b.Helper()
	var pieces atomic.Int64
	b.ReportAllocs()
	for b.Loop() {
		until := pieces.Load() + 1 + 20 // the greeting and the events
		st := bk.NewStream(sub)
		if err := st.Start(sponge{&pieces}, broker.Opening{}); err != nil {
			b.Fatal(err)
		}
		for pieces.Load() < until {
			runtime.Gosched()
		}
		st.HangUp()
	}
}

// BenchmarkStartWithPatterns starts streams with 100 patterns that match none of the
// topics in the history, and waits for their position marks.
func BenchmarkStartWithPatterns(b *testing.B) {
	patterns := make([]string, broker.MaxTopics)
	for i := range patterns {
		patterns[i] = fmt.Sprintf("*.%d.other", i)
	}
	for _, topics := range []int{100, 1_500, 100_000} {
		cfg := config()
		cfg.History = broker.History{MaxEvents: 100_000, MaxBytes: 1 << 30}
		bk := broker.New(cfg)
		began := time.Now()
		for i := range cfg.History.MaxEvents {
			m := broker.Message{Audience: broker.ToTopic(fmt.Sprintf("topic.%d.news", i%topics)), Data: "x"}
			if _, err := bk.Publish(b.Context(), m); err != nil {
				b.Fatal(err)
			}
		}
		starts := []struct {
			name  string
			start broker.Start
		}{{"all", broker.SinceAll()}, {"time", broker.SinceTime(began)}, {"rewind", broker.Rewind(broker.MaxRewind)}}
		for _, s := range starts {
			b.Run(fmt.Sprintf("%d topics/%s", topics, s.name), func(b *testing.B) {
				marked := make(markSink)
				b.ReportAllocs()
				for b.Loop() {
					st := bk.NewStream(broker.Subscription{Topics: patterns, Start: s.start})
					if err := st.Start(marked, broker.Opening{}); err != nil {
						b.Fatal(err)
					}
					<-marked
					st.HangUp()
				}
			})
		}
		bk.Close()
	}
}
