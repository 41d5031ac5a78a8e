package ssehttp_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// BenchmarkOpenRetained opens connections with a stream and reads until its position mark:
// without retained values, with one, and with a pattern that matches 10,000 of them. For
// the latter it also reports the highest number of queued bytes.
func BenchmarkOpenRetained(b *testing.B) {
	for _, c := range []struct {
		name   string
		values int
		query  string
	}{
		{"none", 10_000, "topic=other"}, {"one", 10_000, "topic=news.7"}, {"none again", 10_000, "topic=other"}, {"one again", 10_000, "topic=news.7"}, {"10,000", 10_000, "topic=news.*"},
	} {
		b.Run(c.name, func(b *testing.B) {
			events := broker.New(broker.Config{
				Shards: 2, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: 15 * time.Second, Retry: 3 * time.Second,
				WriteTimeout: 30 * time.Second, History: broker.History{MaxEvents: 1000, MaxBytes: 64 << 20}, Retain: broker.Retain{MaxEvents: 100_000, MaxBytes: 64 << 20},
			})
			h, err := ssehttp.New(ssehttp.Config{Path: "/events", Anonymous: true, AnonymousTopics: []string{">"}, WriteTimeout: 30 * time.Second}, events, verifier{})
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			defer events.Close()
			server := httptest.NewServer(http.HandlerFunc(h.ServeHTTP))
			defer server.Close()
			for i := range c.values {
				m := broker.Message{Audience: broker.ToTopic(fmt.Sprint("news.", i)), Data: strings.Repeat("x", 100), Retain: true}
				if _, err := events.Publish(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}

			request := []byte("GET /events?" + c.query + " HTTP/1.1\r\nHost: x\r\n\r\n")
			most := int64(0)
			for b.Loop() {
				conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", server.Listener.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				for lines := bufio.NewReader(conn); ; {
					line, err := lines.ReadSlice('\n')
					if err != nil {
						b.Fatal(err)
					}
					if bytes.HasPrefix(line, []byte("event: peald.mark")) {
						break
					}
				}
				most = max(most, events.Stats().Total.QueuedBytes)
				_ = conn.Close()
			}
			b.ReportMetric(float64(most), "queued-bytes")
			server.CloseClientConnections()
		})
	}
}
