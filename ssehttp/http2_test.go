package ssehttp_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// TestManyStreamsOfOneConnection opens as many streams as a connection may have,
// in both shards.
func TestManyStreamsOfOneConnection(t *testing.T) {
	onEach(t, enginePaths()[2:], func(t *testing.T, via path) {
		t.Helper()

		const streams = 250
		s := start(t, via, nil)
		bodies := make([]*bufio.Reader, streams)
		for i := range bodies {
			bodies[i] = bufio.NewReader(s.request(t, "GET", "/events").Body)
			block(t, bodies[i])
		}
		for _, data := range []string{"one", strings.Repeat("x", 100_000)} {
			sent := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: data})
			for i, body := range bodies {
				if got, want := block(t, body), "id: "+sent.ID+"\nevent: broadcast\ndata: "+data+"\n\n"; got != want {
					t.Fatalf("stream %d got %.60q, want %.60q", i, got, want)
				}
			}
		}
	})
}

// TestClosedWindow checks that a stream whose window stays closed becomes a slow
// consumer, and that the other streams of its connection get all events, which
// exceed their windows, in the meantime.
func TestClosedWindow(t *testing.T) {
	onEach(t, enginePaths()[2:], func(t *testing.T, via path) {
		t.Helper()

		s := start(t, via, func(_ *ssehttp.Config, b *broker.Config) { b.QueueBytes = 2 << 20 })
		transport, _ := s.client.Transport.(*http.Transport)
		transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
		s.request(t, "GET", "/events") // is never read
		bodies := make([]*bufio.Reader, 3)
		for i := range bodies {
			bodies[i] = bufio.NewReader(s.request(t, "GET", "/events").Body)
			block(t, bodies[i])
		}

		data := strings.Repeat("x", broker.MaxData)
		for range 4 {
			sent := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: data})
			for _, body := range bodies {
				if got, want := block(t, body), "id: "+sent.ID+"\nevent: broadcast\ndata: "+data+"\n\n"; got != want {
					t.Fatalf("got %d bytes, want %d", len(got), len(want))
				}
			}
		}
		waitFor(t, "the stuck stream to be closed", func() bool { return s.broker.Stats().Total.Disconnected["slow_consumer"] == 1 })
	})
}
