package control_test

import (
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func startBench(b *testing.B) *plane {
	b.Helper()
	return start(b, control.Config{
		Tokens: []control.Token{{Name: "shop", Token: "s3cret", Scopes: []string{control.ScopePublish}}},
		Logger: slog.New(slog.DiscardHandler),
	}, &fake{}, nil)
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

// BenchmarkRESTBroadcast is one call after the other.
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
