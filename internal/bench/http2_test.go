package bench_test

import (
	"strings"
	"testing"

	"github.com/peald/peald/internal/bench"
)

func TestConnections(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		h := c.start(t, nil)
		cfg := c.few(h)
		cfg.Clients, cfg.Users, cfg.Slow = 7, 3, 1
		if r := measure(t, h, cfg); r.Faults() != "" {
			t.Errorf("faults %q", r.Faults())
		}

		protocol, connections := "HTTP/1.1", 8
		if c.http2 {
			protocol = "HTTP/2.0"
		}
		if c.perConnection == 2 {
			connections = 5
		}
		if h.protocols[protocol] != 8 || len(h.ports) != connections {
			t.Errorf("protocols %v, %d connections; want 8 streams over %s and %d connections", h.protocols, len(h.ports), protocol, connections)
		}
	})
}

func TestStreamLimitOfServer(t *testing.T) {
	t.Parallel()
	eachOf(t, []client{{http2: true, perConnection: 3}}, func(t *testing.T, c client) {
		h := c.start(t, func(h *hub) { h.perConnection = 2 })
		_, err := bench.Measure(t.Context(), c.few(h), h)
		if err == nil || !strings.Contains(err.Error(), "the server allows 2 streams per connection; want 3") {
			t.Errorf("error %v", err)
		}
	})
}

func TestServerWithoutHTTP2(t *testing.T) {
	t.Parallel()
	eachOf(t, []client{{http2: true}}, func(t *testing.T, c client) {
		h := c.start(t, func(h *hub) { h.onlyHTTP1 = true })
		if r, err := bench.Measure(t.Context(), c.few(h), h); err == nil {
			t.Errorf("result %+v, want an error", r)
		} else if !c.portable && !c.secure && !strings.Contains(err.Error(), "doesn't speak HTTP/2") {
			t.Errorf("error %v", err)
		}
	})
}

func TestSlowStreamsClosedOverHTTP2(t *testing.T) {
	t.Parallel()
	h := client{http2: true}.start(t, func(h *hub) {
		h.write = func(s *subscriber, frame []byte) {
			_, _ = s.w.Write(frame)
			flush(s.w)
			if s == h.clients[3] {
				s.close()
			}
		}
	})

	cfg := client{http2: true}.few(h)
	cfg.Clients, cfg.Slow, cfg.AtOnce = 2, 2, 1

	r := measure(t, h, cfg)
	if r.Faults() != "" || (r.SlowEnded != nil && *r.SlowEnded != 1) {
		t.Errorf("%+v", r)
	}
}
