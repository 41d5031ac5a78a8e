package ssehttp_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// otherKey is a Verifier with a different key from that of verifier.
type otherKey struct{}

func (otherKey) Waits() bool { return false }

func (otherKey) Verify(token string) (auth.Identity, error) {
	if user, ok := strings.CutPrefix(token, "new-"); ok {
		return auth.Identity{User: user}, nil
	}
	return auth.Identity{}, errors.New("signed with the old key")
}

func TestRulesChange(t *testing.T) { onBoth(t, testRulesChange) }

func testRulesChange(t *testing.T, via path) {
	var cfg ssehttp.Config
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) {
		c.AnonymousTopics = []string{"news"}
		cfg = *c
	})
	s.open(t, "/events?access_token=good-alice")
	s.open(t, "/events?topic=news")

	next := cfg
	next.Path = "/elsewhere" // ignored
	next.Anonymous, next.QueryToken, next.Cookie = false, false, "session"
	next.AllowedOrigins = []string{"https://other.example.com"}
	next.AllowedHeaders = []string{"X-Request-ID"}
	s.handler.Reconfigure(next, otherKey{})
	const cookie = "Cookie: session=new-alice"
	s.open(t, "/events", cookie)
	s.open(t, "/events", cookie, "Origin: https://other.example.com")
	s.wantStatus(t, http.StatusUnauthorized, "/events")
	s.wantStatus(t, http.StatusUnauthorized, "/events?access_token=new-alice")
	s.wantStatus(t, http.StatusUnauthorized, "/events", "Cookie: peald_token=new-alice")
	s.wantStatus(t, http.StatusUnauthorized, "/events", "Cookie: session=good-alice")
	s.wantStatus(t, http.StatusForbidden, "/events", cookie, "Origin: https://app.example.com")

	preflight, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.URL+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	preflight.Header = http.Header{"Origin": {"https://other.example.com"}, "Access-Control-Request-Method": {"GET"}}
	resp, err := s.client.Do(preflight)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if allowed := resp.Header.Get("Access-Control-Allow-Headers"); !strings.HasSuffix(allowed, ", sentry-trace, X-Request-ID") {
		t.Errorf("the preflight allows the headers %q", allowed)
	}

	if n := s.broker.Stats().Total.Connections; n != 4 {
		t.Errorf("%d streams are open, want 4, including the earlier ones", n)
	}
}

func TestLimitsChange(t *testing.T) { onBoth(t, testLimitsChange) }

func testLimitsChange(t *testing.T, via path) {
	const alice = "/events?access_token=good-alice"
	var cfg ssehttp.Config
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) { cfg = *c })
	limit := func(all, user, address int) {
		next := cfg
		next.MaxConnections, next.MaxConnectionsPerUser, next.MaxConnectionsPerAddress = all, user, address
		s.handler.Reconfigure(next, verifier{})
	}

	var closers []func() // one per open stream
	open := func() { closers = append(closers, s.open(t, alice)) }
	closeStreams := func(n int) {
		for range n {
			closers[len(closers)-1]()
			closers = closers[:len(closers)-1]
		}

		waitFor(t, "streams to be closed", func() bool { return s.broker.Stats().Total.Connections == len(closers) })
	}

	open() // not counted, since there is no limit
	limit(0, 3, 0)
	open()
	open()
	open()
	s.wantStatus(t, http.StatusTooManyRequests, alice)

	// Streams beyond a lower limit stay open and still count.
	limit(0, 1, 0)
	s.wantStatus(t, http.StatusTooManyRequests, alice)
	closeStreams(2)
	s.wantStatus(t, http.StatusTooManyRequests, alice)
	limit(0, 2, 0)
	open()
	s.wantStatus(t, http.StatusTooManyRequests, alice)
	limit(0, 0, 4)
	open()
	limit(0, 0, 0)
	open()

	// Counted streams are uncounted when they close, whatever the limits are at
	// that time.
	closeStreams(5)
	limit(0, 1, 1)
	open()
	s.wantStatus(t, http.StatusTooManyRequests, alice)
	closeStreams(1)
	limit(2, 0, 0)
	open()
	open()
	resp := s.request(t, "GET", alice)
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("beyond max_connections: status %d, want 503", resp.StatusCode)
	}

	limit(3, 0, 0)
	open()
}

// TestRateSurvivesReconfigure checks that changing another setting doesn't allow
// more connections.
func TestRateSurvivesReconfigure(t *testing.T) {
	var cfg ssehttp.Config
	s := start(t, plainPaths()[0], func(c *ssehttp.Config, _ *broker.Config) {
		c.MaxConnectsPerSecond = 1000
		cfg = *c
	})
	rejected := func() int64 { return s.handler.Rejected()["max_connects_per_second"] }
	cfg.MaxConnectsPerSecond = 1
	s.handler.Reconfigure(cfg, verifier{})
	began := time.Now()
	for n := 1; rejected() == 0; n++ {
		s.request(t, "GET", "/events")
		if n > 2+int(time.Since(began)/time.Second) {
			t.Fatalf("%d connections in %v, want at most one per second", n, time.Since(began))
		}
		cfg.Retry++
		s.handler.Reconfigure(cfg, verifier{})
	}
}

// TestRulesChangeUnderLoad reconfigures under load, for the race detector.
func TestRulesChangeUnderLoad(t *testing.T) { onBoth(t, testRulesChangeUnderLoad) }

func testRulesChangeUnderLoad(t *testing.T, via path) {
	var cfg ssehttp.Config
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) { cfg = *c })
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 50 {
				s.open(t, "/events?access_token=good-alice")()
			}
		})
	}
	running.Go(func() {
		for i := range 500 {
			next := cfg
			next.MaxConnectionsPerUser = i % 3 * 100
			next.MaxConnectionsPerAddress = i % 2 * 100
			next.MaxConnections = i % 2 * 1000
			s.handler.Reconfigure(next, verifier{})
		}
	})
	running.Wait()
}
