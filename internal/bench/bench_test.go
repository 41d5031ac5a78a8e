package bench_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/bench"
)

// both runs a test with streams held either way.
func both(t *testing.T, test func(t *testing.T, portable bool)) {
	t.Helper()
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable=%t", portable), func(t *testing.T) {
			t.Parallel()
			test(t, portable)
		})
	}
}

// few is a measurement of ten messages on three streams.
func few(h *hub, portable bool) bench.Config {
	return bench.Config{URL: h.url, Clients: 3, Load: bench.Load{Burst: 10}, Patience: 2 * time.Second, Portable: portable}
}

func measure(t *testing.T, h *hub, cfg bench.Config) *bench.Result {
	t.Helper()
	r, err := bench.Measure(t.Context(), cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNothingIsWrong(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		for name, set := range map[string]func(*hub){
			"chunked":  nil,
			"identity": func(h *hub) { h.identity = true },

			"cut anywhere": func(h *hub) {
				h.write = func(c *client, frame []byte) {
					for i := range frame {
						_, _ = c.w.Write(frame[i : i+1])
						flush(c.w)
					}
				}
			},

			"two events at a time": func(h *hub) {
				h.write = func(c *client, frame []byte) {
					c.scratch = append(c.scratch, frame...)
					if bytes.Count(c.scratch, []byte("\n\n")) == 2 {
						_, _ = c.w.Write(c.scratch)
						flush(c.w)
						c.scratch = nil
					}
				}
			},

			"comments and events of others": func(h *hub) {
				h.frames = func(_, _ int, frame []byte) [][]byte {
					return [][]byte{[]byte(":\n\ndata: hello\n\n"), frame, []byte("id: x\n\n")}
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := startHub(t, set)
				r := measure(t, h, few(h, portable))
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

func TestFaultsAreFound(t *testing.T) {
	t.Parallel()

	// Each is done to the second of three streams, with the fifth of ten
	// messages.
	for _, c := range []struct {
		name     string
		do       func(frame []byte) [][]byte
		want     string
		delivers int64
	}{
		{"lost", func([]byte) [][]byte { return [][]byte{} }, "1 lost", 29},
		{"doubled", func(f []byte) [][]byte { return [][]byte{f, f} }, "1 doubled", 30},
		{"damaged", func(f []byte) [][]byte { return [][]byte{bytes.Replace(f, []byte("xx\n\n"), []byte("x\n\n"), 1)} }, "1 damaged", 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, portable bool) {
				h := startHub(t, func(h *hub) {
					h.frames = func(stream, number int, frame []byte) [][]byte {
						if stream == 1 && number == 4 {
							return c.do(frame)
						}
						return nil
					}
				})
				r := measure(t, h, few(h, portable))
				if got := r.Faults(); got != c.want || r.Delivered != c.delivers || r.Expected != 30 {
					t.Errorf("faults %q, %d of %d delivered; wanted %q and %d", got, r.Delivered, r.Expected, c.want, c.delivers)
				}
			})
		})
	}
}

func TestTheLastMessageDoubled(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(h *hub) {
		h.frames = func(stream, number int, frame []byte) [][]byte {
			if stream == 2 && number == 9 {
				return [][]byte{frame, frame}
			}
			return nil
		}
	})
	if got := measure(t, h, few(h, false)).Faults(); got != "1 doubled" {
		t.Errorf("faults %q", got)
	}
}

func TestDisorderIsFound(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		var held [][]byte
		h := startHub(t, func(h *hub) {
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

		r := measure(t, h, few(h, portable))
		if got := r.Faults(); got != "3 out of order" || r.Delivered != 30 {
			t.Errorf("faults %q, %d delivered", got, r.Delivered)
		}
	})
}

func TestOneUserGetsWhatIsForAnother(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		h := startHub(t, nil)
		cfg := few(h, portable)
		cfg.Clients, cfg.Users = 5, 2
		r := measure(t, h, cfg)

		// Three streams of one user and two of the other, five messages each.
		if r.Faults() != "" || r.Delivered != 25 || r.Expected != 25 {
			t.Errorf("faults %q, %d of %d delivered", r.Faults(), r.Delivered, r.Expected)
		}

		h = startHub(t, func(h *hub) { h.everybody = true })
		cfg.URL = h.url

		r = measure(t, h, cfg)
		if got := r.Faults(); got != "25 misdirected" {
			t.Errorf("faults %q", got)
		}
	})
}

func TestExpectedWithUsersIsWhatComes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ clients, users, messages int }{{7, 3, 11}, {5, 5, 3}, {9, 2, 1}, {4, 3, 12}} {
		h := startHub(t, nil)
		r := measure(t, h, bench.Config{URL: h.url, Clients: c.clients, Users: c.users, Load: bench.Load{Burst: c.messages}, Patience: 2 * time.Second})
		if r.Faults() != "" || r.Delivered != r.Expected {
			t.Errorf("%+v: faults %q, %d of %d delivered", c, r.Faults(), r.Delivered, r.Expected)
		}
	}
}

func TestStreamsThatEnd(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		h := startHub(t, func(h *hub) {
			h.raw = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n"
			sent := 0
			h.write = func(c *client, frame []byte) {
				if sent++; sent == 5 {
					c.conn.Close()
				}
				_, _ = c.conn.Write(frame)
			}
		})

		r := measure(t, h, few(h, portable))
		if got := r.Faults(); !strings.Contains(got, "lost") || !strings.Contains(got, "1 streams ended") {
			t.Errorf("faults %q", got)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		refuse func(w http.ResponseWriter)
		want   string
	}{
		{"a status with a reason", func(w http.ResponseWriter) { http.Error(w, "come back later\nplease", 503) }, "503 Service Unavailable: come back later"},
		{"a status alone", func(w http.ResponseWriter) { w.WriteHeader(204) }, "204 No Content"},
		{"another type", func(w http.ResponseWriter) { fmt.Fprint(w, "<p>") }, `no event stream but "text/html`},
		{"an end at once", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "retry: 3000\n\n")
		}, "the server ended the stream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, portable bool) {
				h := startHub(t, func(h *hub) {
					h.refuse = func(w http.ResponseWriter, stream int) bool {
						if stream == 1 {
							c.refuse(w)
						}
						return stream == 1
					}
				})
				r, err := bench.Measure(t.Context(), few(h, portable), h)
				switch {
				case err != nil && strings.Contains(err.Error(), "of 3 streams at "+strings.TrimSuffix(h.url, "?q=1")+", 1 could not be opened: ") && strings.Contains(err.Error(), c.want):
				case err == nil && strings.Contains(r.Faults(), "1 streams ended: "+c.want):
				default:
					t.Errorf("result %+v, error %v", r, err)
				}
			})
		})
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		_, err := bench.Measure(t.Context(), bench.Config{URL: "http://127.0.0.1:1/events", Clients: 2, Load: bench.Load{Burst: 1}, Portable: portable}, &hub{})
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("error %v", err)
		}
	})
}

func TestNoHTTP(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"SSH-2.0-OpenSSH_10.0\r\n\r\n",
		strings.Repeat("x", 100<<10),
	} {
		h := startHub(t, func(h *hub) { h.raw = raw })
		_, err := bench.Measure(t.Context(), few(h, false), h)
		if err == nil || !strings.Contains(err.Error(), "no HTTP response") {
			t.Errorf("error %v", err)
		}
	}
}

func TestChunksOfAllKinds(t *testing.T) {
	t.Parallel()
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

	both(t, func(t *testing.T, portable bool) {
		h := startHub(t, func(h *hub) {
			h.raw = head + "3;name=\"value\"\r\n:\n\n\r\n"
			h.write = func(c *client, frame []byte) {
				for len(frame) > 0 {
					n := min(17, len(frame))
					fmt.Fprintf(c.conn, "0%X\r\n%s\r\n", n, frame[:n])
					frame = frame[n:]
				}
			}
		})
		if r := measure(t, h, few(h, portable)); r.Faults() != "" || r.Delivered != 30 {
			t.Errorf("faults %q, %d delivered", r.Faults(), r.Delivered)
		}
	})
	for name, body := range map[string]string{
		"no size":        "zz\r\n",
		"no line break":  "3\r\n:\n\nX",
		"the last chunk": "3\r\n:\n\n\r\n0\r\n\r\n",
	} {
		h := startHub(t, func(h *hub) { h.raw = head + body })
		r, err := bench.Measure(t.Context(), few(h, false), h)
		if err == nil && len(r.Ended) == 0 {
			t.Errorf("%s: the streams should have ended: %+v", name, r)
		}
	}
}

func TestLargeMessages(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		h := startHub(t, nil)
		cfg := few(h, portable)
		cfg.Size, cfg.Patience = 1<<20, 10*time.Second
		if r := measure(t, h, cfg); r.Faults() != "" || r.Delivered != 30 {
			t.Errorf("faults %q, %d delivered", r.Faults(), r.Delivered)
		}
	})
}

func TestStreamsComeFromSeveralAddresses(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		h := startHub(t, nil)
		cfg := few(h, portable)

		cfg.Clients, cfg.Sources = 9, 3
		if r := measure(t, h, cfg); r.Faults() != "" {
			t.Errorf("faults %q", r.Faults())
		}

		for _, from := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
			if h.remotes[from] != 3 {
				t.Errorf("%d streams came from %s, wanted 3 (%v)", h.remotes[from], from, h.remotes)
			}
		}
	})
}

func TestSlowStreamsAreNotExpectedToGetAnything(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		h := startHub(t, nil)
		cfg := few(h, portable)
		cfg.Slow = 2
		r := measure(t, h, cfg)
		if r.Faults() != "" || r.Delivered != 30 || r.Slow != 2 || r.Connect.Count != 5 {
			t.Errorf("%+v", r)
		}
	})
}

func TestTheRateIsKept(t *testing.T) {
	t.Parallel()
	h := startHub(t, nil)
	cfg := few(h, false)
	cfg.Burst, cfg.Rate, cfg.Duration = 0, 100, 200*time.Millisecond
	r := measure(t, h, cfg)
	if r.Published != 20 || r.Expected != 60 || r.Faults() != "" || r.PublishSeconds < 0.2 {
		t.Errorf("%+v", r)
	}
}

func TestProgressIsTold(t *testing.T) {
	t.Parallel()
	h := startHub(t, nil)
	cfg := few(h, false)
	var last bench.Progress
	cfg.Progress = func(p bench.Progress) { last = p }
	measure(t, h, cfg)
	if want := (bench.Progress{Opened: 3, Streams: 3, Delivered: 30, Expected: 30}); last != want {
		t.Errorf("%+v, wanted %+v", last, want)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		h := startHub(t, nil)
		cfg := few(h, portable)
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

func TestPublishingFails(t *testing.T) {
	t.Parallel()
	h := startHub(t, nil)
	if _, err := bench.Measure(t.Context(), few(h, false), failing{h}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
}

func TestWhatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	good := bench.Config{URL: "http://127.0.0.1:1/", Clients: 1, Load: bench.Load{Burst: 1}}

	for says, change := range map[string]func(*bench.Config){
		"no http or https address":            func(c *bench.Config) { c.URL = "/events" },
		"clients: 0":                          func(c *bench.Config) { c.Clients = 0 },
		"negative":                            func(c *bench.Config) { c.Slow = -1 },
		"users: 2":                            func(c *bench.Config) { c.Users = 2 },
		"size: 47":                            func(c *bench.Config) { c.Size = 47 },
		"less than one message":               func(c *bench.Config) { c.Burst = 0 },
		"at most 250":                         func(c *bench.Config) { c.Sources = 251 },
		"password":                            func(c *bench.Config) { c.URL = "http://a:b@127.0.0.1:1/" },
		"100000000 streams need 100000064 fi": func(c *bench.Config) { c.Clients = 1e8 },
	} {
		cfg := good
		change(&cfg)
		if _, err := bench.Measure(t.Context(), cfg, &hub{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, wanted one that says %q", err, says)
		}
	}
}

func TestSlowStreamsThatTheServerEndsAreCounted(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(h *hub) {
		h.raw = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n"
		h.write = func(c *client, frame []byte) {
			_, _ = c.conn.Write(frame)
			if c == h.clients[3] {
				c.conn.Close()
			}
		}
	})

	cfg := few(h, false)
	cfg.Clients, cfg.Slow, cfg.AtOnce = 2, 2, 1

	r := measure(t, h, cfg)
	if r.Faults() != "" || (r.SlowEnded != nil && *r.SlowEnded != 1) {
		t.Errorf("%+v", r)
	}
}

func TestOverTLS(t *testing.T) {
	t.Parallel()
	h := startHub(t, func(h *hub) { h.secure = true })
	cfg := few(h, false)
	cfg.TLS = h.tls
	if r := measure(t, h, cfg); r.Faults() != "" || r.Delivered != 30 {
		t.Errorf("%+v", r)
	}
	cfg.TLS = nil
	if _, err := bench.Measure(t.Context(), cfg, h); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %v", err)
	}
}

func TestOneLoadAfterTheOther(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, portable bool) {
		lose := 12 // the third message of the second load, to the second stream
		h := startHub(t, func(h *hub) {
			h.frames = func(stream, number int, _ []byte) [][]byte {
				if stream == 1 && number == lose {
					return [][]byte{}
				}
				return nil
			}
		})

		cfg := few(h, portable)
		cfg.Patience = 500 * time.Millisecond

		streams, err := bench.Open(t.Context(), cfg, h)
		if err != nil {
			t.Fatal(err)
		}
		defer streams.Close()

		for _, c := range []struct {
			load      bench.Load
			faults    string
			delivered int64
		}{
			{bench.Load{Burst: 10}, "", 30},
			{bench.Load{Burst: 5, Size: 4000}, "1 lost", 14},
			{bench.Load{Rate: 100, Duration: 100 * time.Millisecond, Size: bench.MinSize}, "", 30},
		} {
			r, err := streams.Measure(t.Context(), c.load)
			if err != nil {
				t.Fatal(err)
			}
			if r.Faults() != c.faults || r.Delivered != c.delivered || r.Latency.Count != c.delivered {
				t.Errorf("%+v: faults %q, %d delivered, %d latencies", c.load, r.Faults(), r.Delivered, r.Latency.Count)
			}
		}

		if n := h.opened(); n != 3 {
			t.Errorf("%d streams for all loads", n)
		}
	})
}
