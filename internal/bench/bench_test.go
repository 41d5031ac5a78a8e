package bench_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/bench"
)

// client describes the way in which a test opens streams.
type client struct {
	portable      bool
	secure        bool
	http2         bool
	perConnection int
}

func (c client) String() string {
	return fmt.Sprintf("portable=%t,tls=%t,http2=%t,%d", c.portable, c.secure, c.http2, c.perConnection)
}

func (c client) scheme() string {
	if c.secure {
		return "https"
	}
	return "http"
}

// each runs a test with each client.
func each(t *testing.T, test func(t *testing.T, c client)) {
	t.Helper()
	eachOf(t, []client{{}, {http2: true}, {http2: true, perConnection: 2}}, test)
}

// eachHTTP1 runs a test with each client that uses HTTP/1.1.
func eachHTTP1(t *testing.T, test func(t *testing.T, c client)) {
	t.Helper()
	eachOf(t, []client{{}}, test)
}

// eachOf runs a test with each of clients: lightweight and portable ones, with
// and without TLS. Unless SOAK is set, it omits half of the combinations, so that each
// pair of properties is still tested.
func eachOf(t *testing.T, clients []client, test func(t *testing.T, c client)) {
	t.Helper()
	for n, one := range clients {
		for i := range 4 {
			c := one
			c.portable, c.secure = i/2 == 1, i%2 == 1
			if os.Getenv("SOAK") != "" || (n+i/2+i%2)%2 == 0 {
				c.run(t, test)
			}
		}
	}
}

func (c client) run(t *testing.T, test func(t *testing.T, c client)) {
	t.Helper()
	t.Run(c.String(), func(t *testing.T) {
		t.Parallel()
		test(t, c)
	})
}

// start starts a hub for the client.
func (c client) start(t *testing.T, set func(*hub)) *hub {
	t.Helper()
	return startHub(t, func(h *hub) {
		h.secure = c.secure
		if set != nil {
			set(h)
		}
	})
}

// few returns a measurement of ten messages on three streams.
func (c client) few(h *hub) bench.Config {
	return bench.Config{
		URL: h.url, TLS: h.tls, Clients: 3, Load: bench.Load{Burst: 10}, Patience: 2 * time.Second,
		Portable: c.portable, HTTP2: c.http2, PerConnection: c.perConnection,
	}
}

// few returns the same for the lightweight client.
func few(h *hub) bench.Config { return client{}.few(h) }

func measure(t *testing.T, h *hub, cfg bench.Config) *bench.Result {
	t.Helper()
	r, err := bench.Measure(t.Context(), cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		for name, set := range map[string]func(*hub){
			"chunked":  nil,
			"identity": func(h *hub) { h.identity = true },

			"cut anywhere": func(h *hub) {
				h.write = func(s *subscriber, frame []byte) {
					for i := range frame {
						_, _ = s.w.Write(frame[i : i+1])
						flush(s.w)
					}
				}
			},

			"two events at a time": func(h *hub) {
				h.write = func(s *subscriber, frame []byte) {
					s.scratch = append(s.scratch, frame...)
					if bytes.Count(s.scratch, []byte("\n\n")) == 2 {
						_, _ = s.w.Write(s.scratch)
						flush(s.w)
						s.scratch = nil
					}
				}
			},

			"comments and foreign events": func(h *hub) {
				h.frames = func(_, _ int, frame []byte) [][]byte {
					return [][]byte{[]byte(":\n\ndata: hello\n\n"), frame, []byte("id: x\n\n")}
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := c.start(t, set)
				r := measure(t, h, c.few(h))
				if r.Faults() != "" || r.Delivered != 30 || r.Expected != 30 || r.Latency.Count != 30 || r.Connect.Count != 3 {
					t.Errorf("%+v", r)
				}
				if d := r.Latency; !(0 < d.P50 && d.P50 <= d.P99 && d.P99 <= d.P999 && d.P999 <= d.Max) {
					t.Errorf("latency %+v", d)
				}
			})
		}
	})
}

func TestMeasureFindsFaults(t *testing.T) {
	t.Parallel()

	// Each applies to the fifth of ten messages on the second of three streams.
	for _, fault := range []struct {
		name     string
		do       func(frame []byte) [][]byte
		want     string
		delivers int64
	}{
		{"lost", func([]byte) [][]byte { return [][]byte{} }, "1 lost", 29},
		{"duplicated", func(f []byte) [][]byte { return [][]byte{f, f} }, "1 duplicated", 30},
		{"damaged", func(f []byte) [][]byte { return [][]byte{bytes.Replace(f, []byte("xx\n\n"), []byte("x\n\n"), 1)} }, "1 damaged", 30},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, c client) {
				h := c.start(t, func(h *hub) {
					h.frames = func(stream, number int, frame []byte) [][]byte {
						if stream == 1 && number == 4 {
							return fault.do(frame)
						}
						return nil
					}
				})
				r := measure(t, h, c.few(h))
				if got := r.Faults(); got != fault.want || r.Delivered != fault.delivers || r.Expected != 30 {
					t.Errorf("faults %q, %d of %d delivered; want %q and %d", got, r.Delivered, r.Expected, fault.want, fault.delivers)
				}
			})
		})
	}
}

func TestMeasureFindsDuplicateOfLastMessage(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(h *hub) {
		h.frames = func(stream, number int, frame []byte) [][]byte {
			if stream == 2 && number == 9 {
				return [][]byte{frame, frame}
			}
			return nil
		}
	})
	if got := measure(t, h, few(h)).Faults(); got != "1 duplicated" {
		t.Errorf("faults %q", got)
	}
}

func TestMeasureFindsReordering(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		var held [][]byte
		h := c.start(t, func(h *hub) {
			h.frames = func(stream, number int, frame []byte) [][]byte {
				switch {
				case stream != 0:
					return nil
				case number >= 2 && number < 5:
					held = append(held, bytes.Clone(frame))
					return [][]byte{}
				case number == 5: // 5, then 3, 2 and 4
					return [][]byte{frame, held[1], held[0], held[2]}
				default:
					return nil
				}
			}
		})

		r := measure(t, h, c.few(h))
		if got := r.Faults(); got != "3 out of order" || r.Delivered != 30 {
			t.Errorf("faults %q, %d delivered", got, r.Delivered)
		}
	})
}

func TestMeasureFindsMisdirectedMessages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		h := c.start(t, nil)
		cfg := c.few(h)
		cfg.Clients, cfg.Users = 5, 2
		r := measure(t, h, cfg)

		// Three streams belong to one user and two to the other; each user gets
		// five messages.
		if r.Faults() != "" || r.Delivered != 25 || r.Expected != 25 {
			t.Errorf("faults %q, %d of %d delivered", r.Faults(), r.Delivered, r.Expected)
		}

		h = c.start(t, func(h *hub) { h.everyone = true })
		cfg.URL = h.url

		r = measure(t, h, cfg)
		if got := r.Faults(); got != "25 misdirected" {
			t.Errorf("faults %q", got)
		}
	})
}

func TestExpectedDeliveriesWithUsers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ clients, users, messages int }{{7, 3, 11}, {5, 5, 3}, {9, 2, 1}, {4, 3, 12}} {
		h := startHub(t, nil)
		r := measure(t, h, bench.Config{URL: h.url, Clients: c.clients, Users: c.users, Load: bench.Load{Burst: c.messages}, Patience: 2 * time.Second})
		if r.Faults() != "" || r.Delivered != r.Expected {
			t.Errorf("%+v: faults %q, %d of %d delivered", c, r.Faults(), r.Delivered, r.Expected)
		}
	}
}

func TestStreamsClosedByServer(t *testing.T) {
	t.Parallel()
	eachHTTP1(t, func(t *testing.T, c client) {
		h := c.start(t, func(h *hub) {
			h.raw = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n"
			sent := 0
			h.write = func(s *subscriber, frame []byte) {
				if sent++; sent == 5 {
					s.conn.Close()
				}
				_, _ = s.conn.Write(frame)
			}
		})

		r := measure(t, h, c.few(h))
		if got := r.Faults(); !strings.Contains(got, "lost") || !strings.Contains(got, "1 streams failed") {
			t.Errorf("faults %q", got)
		}
	})
}

func TestRejectedStreams(t *testing.T) {
	t.Parallel()
	for _, rejection := range []struct {
		name   string
		reject func(w http.ResponseWriter)
		want   string
	}{
		{"a status with a reason", func(w http.ResponseWriter) { http.Error(w, "try again later\nplease", 503) }, "503 Service Unavailable: try again later"},
		{"a status without a reason", func(w http.ResponseWriter) { w.WriteHeader(204) }, "204 No Content"},
		{"wrong content type", func(w http.ResponseWriter) { fmt.Fprint(w, "<p>") }, `not an event stream: Content-Type is "text/html`},
		{"closed at once", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "retry: 3000\n\n")
		}, "the server closed the stream"},
	} {
		t.Run(rejection.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, c client) {
				h := c.start(t, func(h *hub) {
					h.reject = func(w http.ResponseWriter, stream int) bool {
						if stream == 1 {
							rejection.reject(w)
						}
						return stream == 1
					}
				})
				r, err := bench.Measure(t.Context(), c.few(h), h)
				switch {
				case err != nil && strings.Contains(err.Error(), "1 of 3 streams at "+strings.TrimSuffix(h.url, "?q=1")+" could not be opened: ") && strings.Contains(err.Error(), rejection.want):
				case err == nil && strings.Contains(r.Faults(), "1 streams failed: "+rejection.want):
				default:
					t.Errorf("result %+v, error %v", r, err)
				}
			})
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c client) {
		_, err := bench.Measure(t.Context(), c.few(&hub{url: c.scheme() + "://127.0.0.1:1/events"}), &hub{})
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("error %v", err)
		}
	})
}

func TestMalformedResponse(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"SSH-2.0-OpenSSH_10.0\r\n\r\n",
		strings.Repeat("x", 100<<10),
	} {
		h := startHub(t, func(h *hub) { h.raw = raw })
		_, err := bench.Measure(t.Context(), few(h), h)
		if err == nil || !strings.Contains(err.Error(), "malformed HTTP response") {
			t.Errorf("error %v", err)
		}
	}
}

func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

	eachHTTP1(t, func(t *testing.T, c client) {
		h := c.start(t, func(h *hub) {
			h.raw = head + "3;name=\"value\"\r\n:\n\n\r\n"
			h.write = func(s *subscriber, frame []byte) {
				for len(frame) > 0 {
					n := min(17, len(frame))
					fmt.Fprintf(s.conn, "0%X\r\n%s\r\n", n, frame[:n])
					frame = frame[n:]
				}
			}
		})
		if r := measure(t, h, c.few(h)); r.Faults() != "" || r.Delivered != 30 {
			t.Errorf("faults %q, %d delivered", r.Faults(), r.Delivered)
		}
	})
	for name, body := range map[string]string{
		"no size":        "zz\r\n",
		"no line break":  "3\r\n:\n\nX",
		"the last chunk": "3\r\n:\n\n\r\n0\r\n\r\n",
	} {
		h := startHub(t, func(h *hub) { h.raw = head + body })
		r, err := bench.Measure(t.Context(), few(h), h)
		if err == nil && len(r.Ended) == 0 {
			t.Errorf("%s: no stream was closed: %+v", name, r)
		}
	}
}

func TestLargeMessages(t *testing.T) {
	t.Parallel()
	// Large messages are expensive with the race detector, so only some clients
	// receive them: each client and each protocol with and without TLS.
	for _, c := range []client{
		{}, {http2: true, perConnection: 2, secure: true},
		{portable: true, secure: true}, {portable: true, http2: true},
	} {
		c.run(t, func(t *testing.T, c client) {
			h := c.start(t, nil)
			cfg := c.few(h)
			cfg.Clients, cfg.Burst = 2, 2
			if c.http2 {
				cfg.Burst = 7 // more than a flow-control window
			}
			cfg.Size, cfg.Patience = 1<<20, 30*time.Second
			if r := measure(t, h, cfg); r.Faults() != "" || r.Delivered != int64(2*cfg.Burst) {
				t.Errorf("faults %q, %d delivered", r.Faults(), r.Delivered)
			}
		})
	}
}
