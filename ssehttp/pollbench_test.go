package ssehttp_test

import (
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// discard is a sink that accepts everything.
type discard struct{ closed chan struct{} }

func (discard) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	return n, nil
}

func (d discard) Close(broker.Reason) { d.closed <- struct{}{} }

// BenchmarkPolls lets 1,000 polls wait and answers them with a broadcast. It reports the
// time for each poll, without its connection.
func BenchmarkPolls(b *testing.B) {
	const polls = 1000
	events := broker.New(broker.Config{
		Shards: 2, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: 15 * time.Second, Retry: 3 * time.Second,
		WriteTimeout: 30 * time.Second, History: broker.History{MaxEvents: 1000, MaxBytes: 1 << 20},
	})
	defer events.Close()
	position, err := events.Position()
	if err != nil {
		b.Fatal(err)
	}
	sink := discard{make(chan struct{}, polls)}
	message := broker.Message{Audience: broker.Everyone(), Data: strings.Repeat("x", 100)}
	b.ReportAllocs()
	for b.Loop() {
		for range polls {
			p := events.NewPoll(broker.Subscription{LastEventID: position}, time.Minute)
			if _, answered, err := p.Read(); answered || err != nil {
				b.Fatal(answered, err)
			}
			if err := p.Start(sink, ssehttp.NewPollAnswer()); err != nil {
				b.Fatal(err)
			}
		}
		r, err := events.Publish(b.Context(), message)
		if err != nil || r.Recipients != polls {
			b.Fatal(r, err)
		}
		position = r.ID
		for range polls {
			<-sink.closed
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*polls), "ns/poll")
}
