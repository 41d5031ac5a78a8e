package ssehttp_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
	"github.com/peald/peald/internal/testbed"
	"github.com/peald/peald/ssehttp"
)

// TestMaxAge reads streams until they have reached the maximum age: their bodies end
// properly, and the next stream continues where they ended. On connections that the
// engine holds, it uses another connection even over HTTP/2.
func TestMaxAge(t *testing.T) { onAll(t, testMaxAge) }

func testMaxAge(t *testing.T, via path) {
	t.Parallel()
	s := start(t, via, func(c *ssehttp.Config, b *broker.Config) {
		withCompression(c, b)
		b.MaxAge = time.Second
	})
	var dialed atomic.Int32
	transport, _ := s.client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}

	for _, coding := range []string{"identity", "gzip"} {
		var want, got []string
		var decoder eventstream.Decoder
		decoder.OnEvent = func(e eventstream.Event) {
			if string(e.Type) != eventstream.MarkType {
				got = append(got, string(e.Data))
			}
		}
		const streams = 2
		for n := range streams {
			resp := s.request(t, http.MethodGet, "/events", "Accept-Encoding: "+coding, "Last-Event-ID: "+decoder.LastEventID())
			want = append(want, strings.Repeat("x", 1000*(n+1)))
			s.publish(t, broker.Message{Audience: broker.Everyone(), Data: want[len(want)-1]})
			body, err := io.ReadAll(decoded(t, resp))
			if err != nil {
				t.Fatalf("%s: the body ends with %v", coding, err)
			}
			if text := string(body); !strings.HasPrefix(text[strings.LastIndex(strings.TrimSuffix(text, "\n\n"), "\n\n"):], "\n\nretry: ") {
				t.Errorf("%s: the body ends with %q", coding, text[max(0, len(text)-100):])
			}
			_, _ = decoder.Write(body)

			want = append(want, "between")
			s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "between"})
		}
		want = want[:len(want)-1]
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %.60q, want %.60q", coding, got, want)
		}
	}
	// Over HTTP/2, the next request may be sent before the connection's end is announced.
	least := int32(4)
	if via.http2 {
		least = 2
	}
	if n := dialed.Load(); n < least && (!via.http2 || via.direct) {
		t.Errorf("%d connections for four streams, want %d", n, least)
	}
	if !testbed.Eventually(time.Minute, func() bool { return s.broker.Stats().Total.Disconnected["max_age"] == 4 }) {
		t.Errorf("streams were closed because of %v", s.broker.Stats().Total.Disconnected)
	}
}
