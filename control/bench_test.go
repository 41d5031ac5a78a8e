package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func startBench(b *testing.B) *plane {
	b.Helper()
	return start(b, control.Config{
		Tokens: []control.Token{{Name: "shop", Token: "s3cret", Scopes: []string{control.ScopePublish}}},
		Logger: slog.New(slog.DiscardHandler),
	}, &fakeBroker{}, nil)
}

// BenchmarkBroadcast keeps 64 calls in flight on one connection. Client and
// server share the machine.
func BenchmarkBroadcast(b *testing.B) {
	p := startBench(b)
	ctx := metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer s3cret")
	req := &pealv1.BroadcastRequest{Data: strings.Repeat("x", 100)}
	if _, err := p.Broadcast(ctx, req); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := p.Broadcast(ctx, req); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// BenchmarkPublishStream publishes with sequential unary calls, with 64 unary
// calls in flight, and with one PublishStream, all on the same connection. Client
// and server share the machine.
func BenchmarkPublishStream(b *testing.B) {
	p := start(b, control.Config{
		Tokens: []control.Token{{Name: "shop", Token: "s3cret", Scopes: []string{control.ScopePublish}}},
		Logger: slog.New(slog.DiscardHandler),
	}, startBroker(b), nil)
	ctx := metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer s3cret")
	data := strings.Repeat("x", 100)
	if _, err := p.Publish(ctx, &pealv1.PublishRequest{Topic: "orders", Data: data}); err != nil {
		b.Fatal(err)
	}

	rate := func(messages int, publish func(messages int)) float64 {
		begun := time.Now()
		publish(messages)
		return float64(messages) / time.Since(begun).Seconds()
	}

	unary := func(inFlight int) func(int) {
		return func(messages int) {
			var left atomic.Int64
			left.Store(int64(messages))
			var callers sync.WaitGroup
			for range inFlight {
				callers.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := p.Publish(ctx, &pealv1.PublishRequest{Topic: "orders", Data: data}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}

			callers.Wait()
		}
	}

	var sequential, concurrent, streamed float64

	for b.Loop() {
		sequential += rate(2_000, unary(1))
		concurrent += rate(20_000, unary(64))
		streamed += rate(200_000, func(messages int) { publishAll(ctx, b, p, messages, data) })
	}

	n := float64(b.N)
	b.ReportMetric(sequential/n, "sequential/s")
	b.ReportMetric(concurrent/n, "64-in-flight/s")
	b.ReportMetric(streamed/n, "streamed/s")
	b.ReportMetric(streamed/concurrent, "x-64-in-flight")
	b.ReportMetric(streamed/sequential, "x-sequential")
}

// publishAll publishes on one stream, and returns when all messages are
// acknowledged.
func publishAll(ctx context.Context, b *testing.B, p *plane, messages int, data string) {
	b.Helper()
	stream, err := p.PublishStream(ctx)
	if err != nil {
		b.Fatal(err)
	}

	var sending sync.WaitGroup
	sending.Go(func() {
		m := &pealv1.PublishStreamRequest{Audience: &pealv1.PublishStreamRequest_Topic{Topic: "orders"}, Data: data}

		for range messages {
			if err := stream.Send(m); err != nil {
				break // Recv returns the error
			}
		}

		if err := stream.CloseSend(); err != nil {
			b.Error(err)
		}
	})

	acknowledged, responses := 0, 0

	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			b.Error(err)
			break
		}

		responses++
		acknowledged += len(resp.GetAcks())
	}

	sending.Wait()
	if acknowledged != messages {
		b.Errorf("%d of %d messages were acknowledged", acknowledged, messages)
	}

	b.ReportMetric(float64(acknowledged)/float64(responses), "acks/response")
}

// BenchmarkRESTBroadcast makes sequential calls.
func BenchmarkRESTBroadcast(b *testing.B) {
	p := startBench(b)
	body := `{"data":"` + strings.Repeat("x", 100) + `"}`
	b.ReportAllocs()
	for b.Loop() {
		if got := p.do(b, "POST", "/v1/broadcast", body, "Authorization", "Bearer s3cret"); got.StatusCode != http.StatusOK {
			b.Fatal(got.Status)
		}
	}
}

// BenchmarkPublishRetained compares messages that are retained with others, to 3 topics
// in turn, with 64 calls in flight.
func BenchmarkPublishRetained(b *testing.B) {
	for _, retain := range []bool{false, true} {
		b.Run(fmt.Sprint("retain=", retain), func(b *testing.B) {
			p := start(b, control.Config{Logger: slog.New(slog.DiscardHandler)}, startBroker(b), nil)
			data := strings.Repeat("x", 100)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var callers sync.WaitGroup
			for i := range 64 {
				req := &pealv1.PublishRequest{Topic: fmt.Sprint("topic", i%3), Data: data, Retain: retain}
				callers.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := p.Publish(b.Context(), req); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			callers.Wait()
		})
	}
}
