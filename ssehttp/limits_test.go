package ssehttp_test

import (
	"bufio"
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// open opens a stream and returns a function that closes it.
func (s *server) open(t *testing.T, target string, headers ...string) (closeStream func()) {
	t.Helper()
	resp := s.request(t, "GET", target, headers...)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", target, resp.Status)
	}
	block(t, bufio.NewReader(resp.Body))
	return func() { resp.Body.Close() }
}

func (s *server) wantStatus(t *testing.T, want int, target string, headers ...string) {
	t.Helper()
	if resp := s.request(t, "GET", target, headers...); resp.StatusCode != want {
		t.Errorf("GET %s: status %d, want %d", target, resp.StatusCode, want)
	}
}

// countAtOpening is the output of a log. It keeps the largest number of open
// streams at the times when the log reported an opened one.
type countAtOpening struct {
	handler atomic.Pointer[ssehttp.Handler]
	most    int // shard goroutines write, one at a time
}

func (c *countAtOpening) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("stream opened")) {
		c.most = max(c.most, c.handler.Load().Open())
	}
	return len(line), nil
}

// TestStreamCountsOnce checks that a stream is not counted twice while the
// engine takes it over, which made the daemon reject streams within the limit.
func TestStreamCountsOnce(t *testing.T) { onAll(t, testStreamCountsOnce) }

func testStreamCountsOnce(t *testing.T, via path) {
	const tries = 50
	var count countAtOpening
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) { c.Logger = logger(&count, slog.LevelDebug) })
	count.handler.Store(s.handler)
	for range tries {
		closeStream := s.open(t, "/events")
		closeStream()
		waitFor(t, "the stream to be closed", func() bool { return s.handler.Open() == 0 })
	}

	s.broker.Close() // waits for the shards
	if count.most != 1 {
		t.Errorf("one open stream was counted as %d", count.most)
	}
}

func TestUserLimit(t *testing.T) { onAll(t, testUserLimit) }

func testUserLimit(t *testing.T, via path) {
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) { c.MaxConnectionsPerUser = 2 })
	const alice = "/events?access_token=good-alice"
	closeStream := s.open(t, alice)
	s.open(t, alice)
	s.wantStatus(t, http.StatusTooManyRequests, alice)
	s.open(t, "/events?access_token=good-bob")
	for range 3 {
		s.open(t, "/events")
	}

	if n := s.handler.Rejected()["max_connections_per_user"]; n != 1 {
		t.Errorf("%d requests are counted as rejected, want 1", n)
	}

	closeStream()
	waitFor(t, "alice's stream to be closed", func() bool { return s.broker.Stats().Total.Connections == 5 })
	closeStream = s.open(t, alice)
	s.wantStatus(t, http.StatusTooManyRequests, alice)

	// A rejection for another reason takes no reservation.
	closeStream()
	waitFor(t, "alice's stream to be closed", func() bool { return s.broker.Stats().Total.Connections == 5 })
	for range 3 {
		s.wantStatus(t, http.StatusForbidden, alice+"&topic=secret")
		s.request(t, "HEAD", alice)
	}

	s.open(t, alice)
}

// TestLimitsUnderConcurrency checks that two concurrent requests can't both get
// the last reservation.
func TestLimitsUnderConcurrency(t *testing.T) { onAll(t, testLimitsUnderConcurrency) }

func testLimitsUnderConcurrency(t *testing.T, via path) {
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) {
		c.MaxConnectionsPerUser, c.MaxConnectionsPerAddress = 7, 100
	})
	var all sync.WaitGroup
	var opened, rejected atomic.Int64
	for range 50 {
		all.Go(func() {
			switch resp := s.request(t, "GET", "/events?access_token=good-alice"); resp.StatusCode {
			case http.StatusOK:
				opened.Add(1)
			case http.StatusTooManyRequests:
				rejected.Add(1)
			}
		})
	}
	all.Wait()
	if opened.Load() != 7 || rejected.Load() != 43 {
		t.Errorf("%d streams opened and %d rejected, want 7 and 43", opened.Load(), rejected.Load())
	}
}

func TestAddressLimit(t *testing.T) { onAll(t, testAddressLimit) }

func testAddressLimit(t *testing.T, via path) {
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) {
		c.MaxConnectionsPerAddress = 2
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.ProxyHeader = ssehttp.ForwardedFor
	})
	one, two := "X-Forwarded-For: 203.0.113.9, 198.51.100.1", "X-Forwarded-For: 198.51.100.2"
	closeStream := s.open(t, "/events", one)
	s.open(t, "/events?access_token=good-alice", one)
	s.wantStatus(t, http.StatusTooManyRequests, "/events", one)
	s.wantStatus(t, http.StatusTooManyRequests, "/events?access_token=good-bob", one)
	s.open(t, "/events", two)
	s.open(t, "/events", "X-Forwarded-For: 2001:db8::1")
	s.open(t, "/events", "X-Forwarded-For: 2001:db8::2")
	s.wantStatus(t, http.StatusTooManyRequests, "/events", "X-Forwarded-For: 2001:db8::3")
	s.open(t, "/events", "X-Forwarded-For: 2001:db8:0:1::3")
	closeStream()
	waitFor(t, "the stream to be closed", func() bool { return s.broker.Stats().Total.Connections == 5 })
	s.open(t, "/events", one)
	if n := s.handler.Rejected()["max_connections_per_ip"]; n != 3 {
		t.Errorf("%d requests are counted as rejected, want 3", n)
	}
}

func TestConnectsPerSecond(t *testing.T) {
	s := start(t, plainPaths()[0], func(c *ssehttp.Config, _ *broker.Config) { c.MaxConnectsPerSecond = 5 })
	for range 50 {
		s.request(t, "GET", "/events")
	}
	s.wantStatus(t, http.StatusServiceUnavailable, "/events")
	s.wantStatus(t, http.StatusOK, "/events", "Accept: text/event-stream") // with a retry
	if n := s.handler.Rejected()["max_connects_per_second"]; n < 20 {
		t.Errorf("%d of 52 requests were asked to retry, want at least 20", n)
	}
}

func TestDisabledQueryToken(t *testing.T) {
	s := start(t, plainPaths()[0], func(c *ssehttp.Config, _ *broker.Config) { c.QueryToken = false })
	s.wantStatus(t, http.StatusUnauthorized, "/events?access_token=good-alice")
	s.wantStatus(t, http.StatusOK, "/events", "Authorization: Bearer good-alice")
}

// application authenticates a session cookie.
type application struct{}

func (application) Authorize(r *http.Request, query url.Values, client netip.Addr) (auth.Identity, error) {
	session, err := r.Cookie("session")
	if errors.Is(err, http.ErrNoCookie) {
		return auth.Identity{}, nil
	}
	switch {
	case session.Value == "down":
		return auth.Identity{}, auth.ErrUnavailable
	case session.Value != "alice" || !client.IsLoopback():
		return auth.Identity{}, &auth.DeniedError{Status: 403}
	}
	return auth.Identity{User: session.Value, Topics: []string{query.Get("topic")}}, nil
}

func TestApplication(t *testing.T) {
	change := func(c *ssehttp.Config, _ *broker.Config) { c.Application = application{} }
	s := start(t, plainPaths()[0], change)
	named := start(t, plainPaths()[0], func(c *ssehttp.Config, b *broker.Config) { change(c, b); c.Anonymous = false })
	s.open(t, "/events?topic=orders.*", "Cookie: session=alice")
	if users := s.broker.Users("", "", 10); len(users) != 1 || users[0].ID != "alice" {
		t.Errorf("users %+v", users)
	}

	for _, c := range []struct {
		server  *server
		status  int
		headers []string
	}{
		{s, 200, nil},
		{s, 200, []string{"Authorization: Basic YTpi"}},
		{named, 401, nil},
		{s, 403, []string{"Cookie: session=mallory"}},
		{s, 503, []string{"Cookie: session=down"}},
		{s, 200, []string{"Cookie: session=down", "Accept: text/event-stream"}},
		{s, 403, []string{"Cookie: session=alice", "Origin: https://evil.example"}},
		{s, 403, []string{"Authorization: Basic YTpi", "Origin: https://evil.example"}},
		{s, 403, []string{"Cookie: session=alice", "Sec-Fetch-Site: cross-site"}},
		{s, 200, []string{"Cookie: session=alice", "Sec-Fetch-Site: same-origin"}},
	} {
		c.server.wantStatus(t, c.status, "/events", c.headers...)
	}

	for cause, want := range map[string]int64{"denied": 1, "unavailable": 2, "origin": 3} {
		if n := s.handler.Rejected()[cause]; n != want {
			t.Errorf("%d rejections for %s, want %d", n, cause, want)
		}
	}
}

// keysDown is a Verifier whose keys are unavailable.
type keysDown struct{}

func (keysDown) Waits() bool { return true }

func (keysDown) Verify(string) (auth.Identity, error) { return auth.Identity{}, auth.ErrUnavailable }

func TestUnavailableKeys(t *testing.T) {
	b := broker.New(broker.Config{Shards: 1, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: 1e9, Retry: 1e9, WriteTimeout: 1e9})
	h, err := ssehttp.New(ssehttp.Config{Engine: ssehttp.NetHTTP, Path: "/events", Retry: 1e9}, b, keysDown{})
	if err != nil {
		t.Fatal(err)
	}
	s := serveVia(t, plainPaths()[0], h, b)
	s.wantStatus(t, http.StatusServiceUnavailable, "/events", "Authorization: Bearer x")
	if n := s.handler.Rejected()["unavailable"]; n != 1 {
		t.Errorf("%d rejections are counted, want 1", n)
	}
}
