package client_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/client"
	"github.com/peald/peald/internal/eventstream"
)

// endless is a transport whose stream repeats a text forever.
type endless string

func (e endless) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Request: r, Body: io.NopCloser(&repeated{text: string(e)})}, nil
}

type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// BenchmarkEvents measures an event of 100 bytes.
func BenchmarkEvents(b *testing.B) {
	data := strings.Repeat("x", 100)
	for name, bench := range map[string]struct {
		data    string
		options []client.Option
	}{
		"plain":    {data, nil},
		"envelope": {`{"topic":"orders.7","event":"topic","data":"` + data + `","time":"2026-11-27T09:30:00.482910331Z"}`, []client.Option{client.WithEnvelope()}},
	} {
		b.Run(name, func(b *testing.B) {
			var stream []byte
			for _, id := range []string{"k3f9-1", "k3f9-2", "k3f9-3"} {
				stream = eventstream.AppendEvent(stream, id, "topic", bench.data)
			}
			sub, err := client.Subscribe(b.Context(), streamURL, append(bench.options, client.WithHTTPClient(&http.Client{Transport: endless(stream)}))...)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for event, err := range sub.Events() {
				if err != nil || len(event.Data) != len(data) {
					b.Fatal(event, err)
				}
				if !b.Loop() {
					return
				}
			}
		})
	}
}
