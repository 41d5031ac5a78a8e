package broker_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/peald/peald/internal/broker"
)

// BenchmarkDeliveryWithEnvelopes broadcasts to streams of which some have envelopes.
func BenchmarkDeliveryWithEnvelopes(b *testing.B) {
	for _, n := range []int{100, 2000} {
		for _, part := range []float64{0, 0.0001, 0.5, 1} {
			b.Run(fmt.Sprint(n, " bytes, ", 100*part, "%"), func(b *testing.B) {
				benchmarkDeliveryTo(b, orders(n), func(i int) broker.Opening {
					return broker.Opening{Envelope: i < int(part*benchmarkStreams)}
				})
			})
		}
	}
}

// BenchmarkEnvelope publishes to a single stream, so that each event is encoded for it alone.
func BenchmarkEnvelope(b *testing.B) {
	for _, n := range []int{100, 2000, 16_000} {
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprint(n, " bytes, ", with), func(b *testing.B) {
				bk := broker.New(withHistory())
				defer bk.Close()
				pieces := openStreamsAs(b, bk, 1, broker.Opening{Envelope: with})
				m := broker.Message{Audience: broker.Everyone(), Data: orders(n)}
				b.ReportAllocs()
				for b.Loop() {
					until := pieces.Load() + 1
					if _, err := bk.Publish(b.Context(), m); err != nil {
						b.Fatal(err)
					}
					for pieces.Load() < until {
						runtime.Gosched()
					}
				}
			})
		}
	}
}
