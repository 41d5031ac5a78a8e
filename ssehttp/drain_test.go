package ssehttp_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/peald/peald/internal/broker"
)

// TestDrainMovesHTTP2Clients checks that clients use other connections once the
// handler drains and their streams have ended. Until then, the streams go on.
func TestDrainMovesHTTP2Clients(t *testing.T) {
	onEach(t, enginePaths()[2:], testDrainMovesHTTP2Clients)
}

func testDrainMovesHTTP2Clients(t *testing.T, via path) {
	s := start(t, via, nil)
	var dialed atomic.Int32
	transport, _ := s.client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	resp := s.request(t, "GET", "/events")
	body := bufio.NewReader(resp.Body)
	block(t, body)
	s.open(t, "/events")

	s.handler.Drain()
	const requests = 3
	for range requests {
		resp := s.request(t, "GET", "/events", "Accept: text/event-stream")
		if text, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(text), "retry: ") {
			t.Errorf("got %q (%v), want a reconnection time", text, err)
		}
	}

	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections while streams are open, want 1", n)
	}
	sent := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "x"})
	if got := block(t, body); !strings.HasPrefix(got, "id: "+sent.ID+"\n") {
		t.Errorf("after the drain has begun, the stream got %q", got)
	}

	if err := s.broker.Drain(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	// The transport may use a connection until it has read GOAWAY.
	for dialed.Load() == 1 {
		s.request(t, "GET", "/events", "Accept: text/event-stream")
	}
}
