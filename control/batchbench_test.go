package control_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/control"
)

// BenchmarkPublishBatch publishes over REST with sequential calls, with 64 calls in
// flight, and with one batch after another. Client and server share the machine.
func BenchmarkPublishBatch(b *testing.B) {
	p := start(b, control.Config{Logger: slog.New(slog.DiscardHandler)}, startBroker(b), nil)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	post := func(path, body string) {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, p.url+path, strings.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		reply, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || strings.Contains(string(reply), `"error"`) {
			b.Errorf("%s: %.200s: %v", resp.Status, reply, err)
		}
	}

	message := `{"topic":"orders","data":"` + strings.Repeat("x", 100) + `"}`
	rate := func(messages, inFlight, batch int) float64 {
		path, body := "/v1/messages", message
		if batch > 1 {
			path, body = "/v1/messages:batch", `{"messages":[`+strings.TrimSuffix(strings.Repeat(message+",", batch), ",")+"]}"
		}
		var left atomic.Int64
		left.Store(int64(messages / batch))
		var callers sync.WaitGroup
		begun := time.Now()
		for range inFlight {
			callers.Go(func() {
				for left.Add(-1) >= 0 {
					post(path, body)
				}
			})
		}
		callers.Wait()
		return float64(messages) / time.Since(begun).Seconds()
	}

	sizes := []int{10, 100, 1000}
	var sequential, concurrent float64
	batches := make([]float64, len(sizes))
	for b.Loop() {
		sequential += rate(1_000, 1, 1)
		concurrent += rate(4_000, 64, 1)
		for i, size := range sizes {
			batches[i] += rate(40_000, 1, size)
		}
	}

	n := float64(b.N)
	b.ReportMetric(sequential/n, "sequential/s")
	b.ReportMetric(concurrent/n, "64-in-flight/s")
	for i, size := range sizes {
		b.ReportMetric(batches[i]/n, fmt.Sprintf("batches-of-%d/s", size))
		b.ReportMetric(batches[i]/sequential, fmt.Sprintf("x-sequential-%d", size))
	}
}
