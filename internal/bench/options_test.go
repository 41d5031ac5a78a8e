package bench_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/bench"
)

func TestSourceAddresses(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		h := c.start(t, nil)
		cfg := c.few(h)

		cfg.Clients, cfg.Sources = 12, 3
		if r := measure(t, h, cfg); r.Faults() != "" {
			t.Errorf("faults %q", r.Faults())
		}

		for _, from := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
			if h.remotes[from] != 4 {
				t.Errorf("%d streams came from %s, want 4 (%v)", h.remotes[from], from, h.remotes)
			}
		}
	})
}

func TestSlowStreamsAreNotChecked(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		h := c.start(t, nil)
		cfg := c.few(h)
		cfg.Slow = 2
		r := measure(t, h, cfg)
		if r.Faults() != "" || r.Delivered != 30 || r.Slow != 2 || r.Connect.Count != 5 {
			t.Errorf("%+v", r)
		}
	})
}

func TestRate(t *testing.T) {
	t.Parallel()
	h := startHub(t, nil)
	cfg := few(h)
	cfg.Burst, cfg.Rate, cfg.Duration = 0, 100, 200*time.Millisecond
	r := measure(t, h, cfg)
	if r.Published != 20 || r.Expected != 60 || r.Faults() != "" || r.PublishSeconds < 0.2 {
		t.Errorf("%+v", r)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	h := startHub(t, nil)
	cfg := few(h)
	var last bench.Progress
	cfg.Progress = func(p bench.Progress) { last = p }
	measure(t, h, cfg)
	if want := (bench.Progress{Opened: 3, Streams: 3, Delivered: 30, Expected: 30}); last != want {
		t.Errorf("%+v, want %+v", last, want)
	}
}

func TestMeasureCanceled(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		h := c.start(t, nil)
		cfg := c.few(h)
		cfg.Burst, cfg.Rate, cfg.Duration = 0, 10, time.Hour
		ctx, cancel := context.WithCancel(t.Context())

		cfg.Progress = func(p bench.Progress) {
			if p.Delivered > 0 {
				cancel()
			}
		}
		if _, err := bench.Measure(ctx, cfg, h); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

type failing struct{ *hub }

func (failing) Publish(context.Context, string, string) error { return io.ErrUnexpectedEOF }

func TestPublishError(t *testing.T) {
	t.Parallel()
	h := startHub(t, nil)
	if _, err := bench.Measure(t.Context(), few(h), failing{h}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
}

func TestInvalidConfig(t *testing.T) {
	t.Parallel()
	good := bench.Config{URL: "http://127.0.0.1:1/", Clients: 1, Load: bench.Load{Burst: 1}}

	for want, change := range map[string]func(*bench.Config){
		"invalid URL \"/events\"":             func(c *bench.Config) { c.URL = "/events" },
		"clients: 0":                          func(c *bench.Config) { c.Clients = 0 },
		"negative":                            func(c *bench.Config) { c.Slow = -1 },
		"users: 2":                            func(c *bench.Config) { c.Users = 2 },
		"size: 47":                            func(c *bench.Config) { c.Size = 47 },
		"less than one message":               func(c *bench.Config) { c.Burst = 0 },
		"streams-per-connection must not be":  func(c *bench.Config) { c.PerConnection = -1 },
		"streams-per-connection: 2; want 1":   func(c *bench.Config) { c.PerConnection = 2 },
		"want at most 250":                    func(c *bench.Config) { c.Sources = 251 },
		"poll: slow and":                      func(c *bench.Config) { c.Poll, c.Slow = true, 1 },
		"poll: slow":                          func(c *bench.Config) { c.Poll, c.HTTP2, c.PerConnection = true, true, 2 },
		"password":                            func(c *bench.Config) { c.URL = "http://a:b@127.0.0.1:1/" },
		"100000000 streams need 100000064 fi": func(c *bench.Config) { c.Clients = 1e8 },
	} {
		cfg := good
		change(&cfg)
		if _, err := bench.Measure(t.Context(), cfg, &hub{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func TestSlowStreamsClosedByServer(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(h *hub) {
		h.raw = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n"
		h.write = func(s *subscriber, frame []byte) {
			_, _ = s.conn.Write(frame)
			if s == h.clients[3] {
				s.conn.Close()
			}
		}
	})

	cfg := few(h)
	cfg.Clients, cfg.Slow, cfg.AtOnce = 2, 2, 1

	r := measure(t, h, cfg)
	if r.Faults() != "" || (r.SlowEnded != nil && *r.SlowEnded != 1) {
		t.Errorf("%+v", r)
	}
}

func TestMeasureOverTLS(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(h *hub) { h.secure = true })
	cfg := few(h)
	cfg.TLS = h.tls
	if r := measure(t, h, cfg); r.Faults() != "" || r.Delivered != 30 {
		t.Errorf("%+v", r)
	}
	cfg.TLS.MaxVersion = tls.VersionTLS12
	if r := measure(t, h, cfg); r.Faults() != "" || r.Delivered != 30 {
		t.Errorf("with TLS 1.2: %+v", r)
	}

	cfg.TLS = nil
	if _, err := bench.Measure(t.Context(), cfg, h); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %v", err)
	}
}

func TestSeveralLoads(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		lose := 12 // the third message of the second load, to the second stream
		h := c.start(t, func(h *hub) {
			h.frames = func(stream, number int, _ []byte) [][]byte {
				if stream == 1 && number == lose {
					return [][]byte{}
				}
				return nil
			}
		})

		cfg := c.few(h)
		cfg.Patience = 500 * time.Millisecond

		streams, err := bench.Open(t.Context(), cfg, h)
		if err != nil {
			t.Fatal(err)
		}
		defer streams.Close()

		for _, step := range []struct {
			load      bench.Load
			faults    string
			delivered int64
		}{
			{bench.Load{Burst: 10}, "", 30},
			{bench.Load{Burst: 5, Size: 4000}, "1 lost", 14},
			{bench.Load{Rate: 100, Duration: 100 * time.Millisecond, Size: bench.MinSize}, "", 30},
		} {
			r, err := streams.Measure(t.Context(), step.load)
			if err != nil {
				t.Fatal(err)
			}
			if r.Faults() != step.faults || r.Delivered != step.delivered || r.Latency.Count != step.delivered {
				t.Errorf("%+v: faults %q, %d delivered, %d latencies", step.load, r.Faults(), r.Delivered, r.Latency.Count)
			}
		}

		if n := h.opened(); n != 3 {
			t.Errorf("%d streams were opened, want 3", n)
		}
	})
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		h := c.start(t, func(h *hub) {
			h.frames = func(_, _ int, frame []byte) [][]byte {
				return [][]byte{bytes.Replace(frame, []byte("data: "), []byte("data: wrapped "), 1)}
			}
		})
		cfg := c.few(h)
		cfg.Unwrap = func(data []byte) []byte { return bytes.TrimPrefix(data, []byte("wrapped ")) }
		if r := measure(t, h, cfg); r.Faults() != "" || r.Delivered != 30 {
			t.Errorf("%+v", r)
		}
	})
}
