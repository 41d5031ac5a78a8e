package ssehttp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// verifier accepts tokens that start with "good-", followed by the user.
type verifier struct{}

func (verifier) Waits() bool { return false }

func (verifier) Verify(token string) (auth.Identity, error) {
	if user, ok := strings.CutPrefix(token, "good-"); ok {
		return auth.Identity{User: user, Topics: []string{"orders.*", "news", "logs.>"}}, nil
	}
	return auth.Identity{}, errors.New("forged token")
}

type server struct {
	*httptest.Server
	broker  *broker.Broker
	handler *ssehttp.Handler
	client  *http.Client
	via     path
}

// start serves a handler over a real socket. change may modify its configuration.
func start(t *testing.T, via path, change func(*ssehttp.Config, *broker.Config)) *server {
	t.Helper()
	cfg := ssehttp.Config{
		Engine: via.engine, Path: "/events", Cookie: "peald_token", QueryToken: true, Anonymous: true, Retry: 3 * time.Second, WriteTimeout: 30 * time.Second,
		AllowedOrigins: []string{"https://app.example.com"},
	}
	bcfg := broker.Config{
		Shards: 2, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect,
		Heartbeat: 15 * time.Second, Retry: 3 * time.Second, WriteTimeout: 30 * time.Second,
	}
	if change != nil {
		change(&cfg, &bcfg)
	}
	b := broker.New(bcfg)
	h, err := ssehttp.New(cfg, b, verifier{})
	if err != nil {
		t.Fatal(err)
	}
	return serveVia(t, via, h, b)
}

// request sends a request with headers of the form "Name: value".
func (s *server) request(t *testing.T, method, target string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if s.via.http2 {
			value = strings.TrimSpace(value) // space around it is malformed (RFC 9113 §8.2.1)
		}
		req.Header.Add(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// block reads up to the end of the next block.
func block(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			t.Fatalf("the stream ended after %q: %v", text.String(), err)
		}
		if line == "\n" {
			return text.String()
		}
	}
}

func (s *server) publish(t *testing.T, m broker.Message) broker.Receipt {
	t.Helper()
	r, err := s.broker.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestStream(t *testing.T) { onAll(t, testStream) }

func testStream(t *testing.T, via path) {
	s := start(t, via, nil)
	resp := s.request(t, "GET", "/events", "Accept: text/event-stream", "Authorization: Bearer good-alice")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := resp.Header.Get(name); resp.StatusCode != 200 || got != want {
			t.Errorf("status %d, %s: %q, want 200 and %q", resp.StatusCode, name, got, want)
		}
	}

	body := bufio.NewReader(resp.Body)
	if first := block(t, body); !regexp.MustCompile(`^retry: \d{4}\nevent: peald\.mark\ndata:\n\n$`).MatchString(first) {
		t.Errorf("the first block is %q", first)
	}

	all := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "one\ntwo"})
	one := s.publish(t, broker.Message{Audience: broker.ToUser("alice"), Data: "for you"})
	if got, want := block(t, body), "id: "+all.ID+"\nevent: broadcast\ndata: one\ndata: two\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	if got, want := block(t, body), "id: "+one.ID+"\nevent: individual\ndata: for you\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	if users := s.broker.Users("", "", 10); len(users) != 1 || users[0].ID != "alice" {
		t.Errorf("users %+v", users)
	}
}

func TestRequests(t *testing.T) { onAll(t, testRequests) }

func testRequests(t *testing.T, via path) {
	s := start(t, via, nil)
	closed := start(t, via, func(c *ssehttp.Config, _ *broker.Config) { c.Anonymous = false })
	for name, c := range map[string]struct {
		server  *server
		method  string
		target  string
		headers []string
		status  int
		want    string // part of the body, or "Name: value" of a header
	}{
		"anonymous":               {s, "GET", "/events", nil, 200, ""},
		"Accept of a browser":     {s, "GET", "/events", []string{"Accept: text/event-stream"}, 200, ""},
		"wildcard in Accept":      {s, "GET", "/events", []string{"Accept: text/html, */*;q=0.1"}, 200, ""},
		"empty Accept":            {s, "GET", "/events", []string{"Accept: "}, 200, ""},
		"empty list in Accept":    {s, "GET", "/events", []string{"Accept: , ,"}, 200, ""},
		"allowed origin on a 404": {s, "GET", "/event", []string{"Origin: https://app.example.com"}, 404, "Access-Control-Allow-Origin: https://app.example.com"},
		"other Accept":            {s, "GET", "/events", []string{"Accept: text/html"}, 406, "text/html"},
		"Accept with weight 0":    {s, "GET", "/events", []string{"Accept: text/event-stream;q=0"}, 406, ""},
		"HEAD":                    {s, "HEAD", "/events", nil, 200, "Content-Type: text/event-stream"},
		"HEAD with bad token":     {s, "HEAD", "/events?access_token=bad", nil, 401, ""},
		"OPTIONS":                 {s, "OPTIONS", "/events", nil, 204, "Allow: GET, HEAD, OPTIONS"},
		"POST":                    {s, "POST", "/events", nil, 405, "Allow: GET, HEAD, OPTIONS"},
		"POST gets a reason":      {s, "POST", "/events", nil, 405, "POST"},
		"other path":              {s, "GET", "/v1/broadcast", nil, 404, "/events"},
		"token in header":         {s, "GET", "/events", []string{"Authorization: bearer good-a"}, 200, ""},
		"token in cookie":         {s, "GET", "/events", []string{"Cookie: peald_token=good-a"}, 200, ""},
		"token in query":          {s, "GET", "/events?access_token=good-a", nil, 200, ""},
		"same token twice":        {s, "GET", "/events?access_token=good-a", []string{"Cookie: peald_token=good-a"}, 200, ""},
		"two tokens":              {s, "GET", "/events?access_token=good-a", []string{"Cookie: peald_token=good-b"}, 400, "two different tokens"},
		"forged token":            {s, "GET", "/events", []string{"Authorization: Bearer x"}, 401, "forged"},
		"forged token challenges": {s, "GET", "/events", []string{"Authorization: Bearer x"}, 401, "Www-Authenticate: Bearer"},
		"cookie that isn't ASCII": {s, "GET", "/events", []string{"Cookie: peald_token=b\xc3\xbc"}, 401, "forged"},
		"cookie with a quote":     {s, "GET", "/events", []string{"Cookie: peald_token=x\"y"}, 401, "forged"},
		"forged cookie":           {s, "GET", "/events", []string{"Cookie: peald_token=x"}, 401, "forged"},
		"forged query":            {s, "GET", "/events?access_token=x", nil, 401, "forged"},
		"empty query token":       {s, "GET", "/events?access_token=", nil, 401, "access_token"},
		"empty cookie":            {s, "GET", "/events", []string{"Cookie: peald_token="}, 200, ""},
		"Basic":                   {s, "GET", "/events", []string{"Authorization: Basic YTpi"}, 401, "Bearer TOKEN"},
		"no token but required":   {closed, "GET", "/events", nil, 401, "peald_token"},
		"token if required":       {closed, "GET", "/events?access_token=good-a", nil, 200, ""},

		"allowed origin": {
			s, "GET", "/events",
			[]string{"Origin: https://app.example.com", "Cookie: peald_token=good-a"}, 200, "Access-Control-Allow-Origin: https://app.example.com",
		},
		"allowed origin may send cookies": {s, "GET", "/events", []string{"Origin: https://app.example.com"}, 200, "Access-Control-Allow-Credentials: true"},
		"allowed origin on a rejection":   {s, "GET", "/events?access_token=x", []string{"Origin: https://app.example.com"}, 401, "Access-Control-Allow-Origin: https://app.example.com"},
		"foreign origin":                  {s, "GET", "/events", []string{"Origin: https://evil.example"}, 200, "Access-Control-Allow-Origin: "},
		"foreign origin with cookie":      {s, "GET", "/events", []string{"Origin: https://evil.example", "Cookie: a=b"}, 403, "https://evil.example"},
		"preflight of an allowed origin":  {s, "OPTIONS", "/events", []string{"Origin: https://app.example.com", "Access-Control-Request-Method: GET"}, 204, "Access-Control-Allow-Headers: Last-Event-ID, Authorization, Cache-Control, traceparent, tracestate, baggage, sentry-trace"},
		"preflight of a foreign origin":   {s, "OPTIONS", "/events", []string{"Origin: https://evil.example", "Access-Control-Request-Method: GET"}, 204, "Access-Control-Allow-Headers: "},
		"caches separate origins":         {s, "GET", "/events", nil, 200, "Vary: Origin"},
		"same origin":                     {s, "GET", "/events", []string{"Origin: " + s.URL, "Cookie: a=b"}, 200, ""},
		"opaque origin":                   {s, "GET", "/events", []string{"Origin: null", "Cookie: a=b"}, 403, "null"},
		"similar origin":                  {s, "GET", "/events", []string{"Origin: https://app.example.com.evil.example", "Cookie: a=b"}, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			resp := c.server.request(t, c.method, c.target, c.headers...)
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			if header, value, ok := strings.Cut(c.want, ": "); ok {
				if got := resp.Header.Get(header); got != value {
					t.Errorf("%s: %q, want %q", header, got, value)
				}
			} else if c.want != "" {
				body, err := io.ReadAll(resp.Body)
				if err != nil || !strings.Contains(string(body), c.want) || strings.Count(string(body), "\n") != 1 {
					t.Errorf("body %q (%v), want one line with %q", body, err, c.want)
				}
			}
		})
	}
}

func TestAskToRetry(t *testing.T) { onAll(t, testAskToRetry) }

func testAskToRetry(t *testing.T, via path) {
	full := start(t, via, func(c *ssehttp.Config, _ *broker.Config) { c.MaxConnections = 1 })
	held := full.request(t, "GET", "/events")
	block(t, bufio.NewReader(held.Body))
	draining := start(t, via, nil)
	draining.handler.Drain()
	closed := start(t, via, nil)
	closed.broker.Close()
	suspended := start(t, via, func(_ *ssehttp.Config, b *broker.Config) { b.Replica = true })
	for name, s := range map[string]*server{"full": full, "draining": draining, "closed": closed, "suspended": suspended} {
		resp := s.request(t, "GET", "/events", "Accept: text/event-stream")
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || !regexp.MustCompile(`^retry: [3-6]\d{3}\n\n$`).Match(body) {
			t.Errorf("%s: a browser got status %d and %q (%v), want 200 and a reconnection time", name, resp.StatusCode, body, err)
		}

		resp = s.request(t, "GET", "/events")
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: another client got status %d with Retry-After %q, want 503 and a time", name, resp.StatusCode, resp.Header.Get("Retry-After"))
		}

		want := map[string]string{"full": "no more streams", "draining": "is shutting down", "closed": "is shutting down", "suspended": "its cluster"}[name]
		if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: another client got %q (%v), want %q in it", name, body, err, want)
		}
	}

	held.Body.Close()
	waitFor(t, "the stream to be closed", func() bool { return full.handler.Open() == 0 })
	if resp := full.request(t, "GET", "/events"); resp.StatusCode != 200 {
		t.Errorf("below the limit: status %d, want 200", resp.StatusCode)
	}
}

// TestClientAheadOfTheDaemon checks that a client that has seen a later event
// from the cluster than this daemon is asked to retry, at another daemon.
func TestClientAheadOfTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(broker.Config{Shards: 1, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: time.Minute, Retry: 3 * time.Second, WriteTimeout: time.Minute, Replica: true})
		defer b.Close()
		h, err := ssehttp.New(ssehttp.Config{Engine: ssehttp.NetHTTP, Path: "/events", Anonymous: true, Retry: 3 * time.Second, WriteTimeout: time.Minute}, b, verifier{})
		if err != nil {
			t.Fatal(err)
		}

		defer func() { _ = h.Close() }()
		b.Begin("abc", 1)
		b.Resume()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", http.NoBody)
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("Last-Event-ID", "abc-9")
		resp := httptest.NewRecorder()
		h.ServeHTTP(resp, req)
		if body := resp.Body.String(); resp.Code != http.StatusOK || !regexp.MustCompile(`^retry: [3-6]\d{3}\nid: abc-9\n\n$`).MatchString(body) {
			t.Errorf("got status %d and %q, want 200, a reconnection time and the id", resp.Code, body)
		}

		if n := h.Rejected()["suspended"]; n != 1 || h.Open() != 0 {
			t.Errorf("%d rejections and %d streams are counted, want 1 and none", n, h.Open())
		}
	})
}

// waitFor polls until cond holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func TestHangUp(t *testing.T) { onAll(t, testHangUp) }

func testHangUp(t *testing.T, via path) {
	s := start(t, via, nil)
	resp := s.request(t, "GET", "/events?access_token=good-alice")
	block(t, bufio.NewReader(resp.Body))
	resp.Body.Close()
	waitFor(t, "no streams", func() bool { return s.broker.Stats().Total.Connections == 0 })
	// The broker updates its count of users shortly after the shard its count of
	// streams.
	waitFor(t, "no users", func() bool { return s.broker.Stats().Users == 0 })
}

// TestClientThatDoesNotRead checks that a stuck client is disconnected and that
// another client gets all events in the meantime.
func TestClientThatDoesNotRead(t *testing.T) { onBoth(t, testClientThatDoesNotRead) }

func testClientThatDoesNotRead(t *testing.T, via path) {
	s := start(t, via, func(_ *ssehttp.Config, b *broker.Config) { b.QueueBytes = 256 << 10 })
	stuck, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if _, err := io.WriteString(stuck, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	reader := s.request(t, "GET", "/events")
	body := bufio.NewReader(reader.Body)
	block(t, body)
	waitFor(t, "two streams", func() bool { return s.broker.Stats().Total.Connections == 2 })
	data := strings.Repeat("x", 64<<10)
	for n := 0; s.broker.Stats().Total.Disconnected["slow_consumer"] == 0; n++ {
		r := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: data})
		if got := block(t, body); !strings.HasPrefix(got, "id: "+r.ID+"\n") {
			t.Fatalf("the reader got %.40q, want %s", got, r.ID)
		}
		if n > 1000 {
			t.Fatal("the client that doesn't read is still connected after 64 MB")
		}
	}
}
