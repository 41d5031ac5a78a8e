package bench_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/bench"
)

// pollServer answers polls with the broadcasts after their position. Tests make it
// faulty through its fields.
type pollServer struct {
	// answer changes the events of a response, if not nil.
	answer func(events []polled) []polled
	// closing closes each connection after its first response.
	closing bool
	// reject replies to polls that wait if it returns true.
	reject func(w http.ResponseWriter) bool

	mu     sync.Mutex
	events []polled
	more   chan struct{} // closed by the next event
	conns  map[string]bool
}

// batch is the response to a poll.
type batch struct {
	Events   []polled `json:"events"`
	Position string   `json:"position"`
	Reset    *string  `json:"reset"`
}

type polled struct {
	ID    string `json:"id"`
	Event string `json:"event"`
	Data  string `json:"data"`
}

func (c client) startPolls(t *testing.T, s *pollServer) bench.Config {
	t.Helper()
	s.more, s.conns = make(chan struct{}), make(map[string]bool)
	server := httptest.NewUnstartedServer(s)
	server.EnableHTTP2 = true
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetHTTP2(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)

	cfg := bench.Config{Poll: true, Clients: 3, Load: bench.Load{Burst: 10}, Patience: 2 * time.Second, Portable: c.portable, HTTP2: c.http2}
	if c.secure {
		server.StartTLS()
		trusted := x509.NewCertPool()
		trusted.AddCert(server.Certificate())
		cfg.TLS = &tls.Config{RootCAs: trusted}
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	cfg.URL = server.URL + "/events?q=1"
	return cfg
}

func (s *pollServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	position, waits := query.Get("last_event_id"), query.Get("wait") == "60s"
	if r.Header.Get("Accept") != "application/json" || query.Get("q") != "1" || waits != (position != "") {
		http.Error(w, "not a poll", http.StatusBadRequest)
		return
	}
	if waits && s.reject != nil && s.reject(w) {
		return
	}

	s.mu.Lock()
	s.conns[r.RemoteAddr] = true
	after, _ := strconv.Atoi(strings.TrimPrefix(position, "log-"))
	if !waits {
		after = len(s.events)
	}
	more := s.more
	wait := waits && after == len(s.events)
	s.mu.Unlock()

	if wait {
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}

	s.mu.Lock()
	end := len(s.events)
	events := append([]polled{}, s.events[after:]...)
	s.mu.Unlock()
	if s.answer != nil {
		events = s.answer(events)
	}
	if s.closing {
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Content-Type", "application/json")
	text, err := json.Marshal(batch{events, fmt.Sprint("log-", end), nil})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	_, _ = w.Write(text)
}

// connections returns how many connections there have been.
func (s *pollServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Publish implements bench.Publisher.
func (s *pollServer) Publish(_ context.Context, _, data string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, polled{fmt.Sprint("log-", len(s.events)+1), "broadcast", data}, polled{"", "other", "first\nsecond"})
	close(s.more)
	s.more = make(chan struct{})
	return nil
}

// Token implements bench.Publisher.
func (s *pollServer) Token(_ context.Context, user string) (string, error) { return user, nil }

func eachPolling(t *testing.T, test func(t *testing.T, c client)) {
	t.Helper()
	eachOf(t, []client{{}, {http2: true}}, test)
}

func TestPolls(t *testing.T) {
	t.Parallel()
	for _, closing := range []bool{false, true} {
		eachPolling(t, func(t *testing.T, c client) {
			s := &pollServer{closing: closing}
			cfg := c.startPolls(t, s)
			cfg.Burst, cfg.Rate, cfg.Duration = 0, 100, 100*time.Millisecond
			r, err := bench.Measure(t.Context(), cfg, s)
			if err != nil {
				t.Fatal(err)
			}
			if r.Faults() != "" || r.Delivered != 30 || r.Foreign != 30 || r.Connect.Count != 3 {
				t.Errorf("%+v", r)
			}
			if n := s.connections(); (n > 3) != closing {
				t.Errorf("%d connections with closing=%t", n, closing)
			}
		})
	}
}

func TestPollFaults(t *testing.T) {
	t.Parallel()
	dropped := func(events []polled) []polled { return events[:0] }
	doubled := func(events []polled) []polled { return append(events, events...) }
	for want, s := range map[string]*pollServer{
		"30 lost":       {answer: dropped},
		"30 duplicated": {answer: doubled},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			cfg := client{}.startPolls(t, s)
			cfg.Patience = 200 * time.Millisecond
			r, err := bench.Measure(t.Context(), cfg, s)
			if err != nil || r.Faults() != want {
				t.Errorf("faults %v, %v", r, err)
			}
		})
	}
}

func TestRejectedPolls(t *testing.T) {
	t.Parallel()
	eachPolling(t, func(t *testing.T, c client) {
		s := &pollServer{reject: func(w http.ResponseWriter) bool {
			http.Error(w, "too busy\nretry", http.StatusServiceUnavailable)
			return true
		}}
		cfg := c.startPolls(t, s)
		r, err := bench.Measure(t.Context(), cfg, s)
		want := "503 Service Unavailable: too busy"
		if err == nil {
			err = fmt.Errorf("%s", r.Faults()) // rejected after the clients were open
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	})
}

// A response that isn't that of a poll is an error.
func TestPollsOfOtherServers(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{}`:     "no position",
		`[1]`:    "malformed response to a poll",
		`<html>`: `Content-Type "text/html`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if body[0] != '<' {
				w.Header().Set("Content-Type", "application/json")
			}
			fmt.Fprint(w, body)
		}))
		t.Cleanup(server.Close)
		cfg := bench.Config{Poll: true, URL: server.URL, Clients: 1, Load: bench.Load{Burst: 1}}
		if _, err := bench.Measure(t.Context(), cfg, &pollServer{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}
