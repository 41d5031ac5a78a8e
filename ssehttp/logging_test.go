package ssehttp_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/testbed"
	"github.com/peald/peald/ssehttp"
)

// onAuthorize is an application that calls a function and, unless that returns an
// error, identifies every client as alice.
type onAuthorize func() error

func (a onAuthorize) Authorize(*http.Request, url.Values, netip.Addr) (auth.Identity, error) {
	return auth.Identity{User: "alice", Topics: []string{"news"}}, a()
}

func logger(log io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level}))
}

// awaitLine waits for a line with all parts, and fails if there are several.
func awaitLine(t *testing.T, log *testbed.Log, parts ...string) string {
	t.Helper()

	if !testbed.Eventually(time.Minute, func() bool { return len(log.With(parts...)) > 0 }) {
		t.Fatalf("no line with %q in\n%s", parts, log)
	}

	found := log.With(parts...)
	if len(found) > 1 {
		t.Errorf("%d lines with %q in\n%s", len(found), parts, log)
	}

	return found[0]
}

// TestRejectionsAreLogged covers the causes that are hard to produce in a whole
// daemon. The daemon's test covers the others.
func TestRejectionsAreLogged(t *testing.T) { onBoth(t, testRejectionsAreLogged) }

func testRejectionsAreLogged(t *testing.T, via path) {
	drain := func(s *server) error { s.handler.Drain(); return nil }
	suspend := func(s *server) error { s.broker.Suspend(0); return nil }
	shutDown := func(s *server) error { s.broker.Close(); return nil }

	for name, c := range map[string]struct {
		before, during func(s *server) error // called before the request and by the application
		status         int
		cause          string
		more           string // also in the line
	}{
		"draining":                   {drain, nil, 200, "draining", ""},
		"closed during Authorize":    {nil, shutDown, 200, "draining", "user=alice"},
		"suspended":                  {suspend, nil, 200, "suspended", ""},
		"suspended during Authorize": {nil, suspend, 200, "suspended", "user=alice"},
		"denied":                     {nil, func(*server) error { return &auth.DeniedError{Status: 403} }, 403, "denied", "status=403"},
		"application unavailable":    {nil, func(*server) error { return errors.New("no reply") }, 200, "unavailable", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var log testbed.Log
			var s *server

			s = start(t, via, func(cfg *ssehttp.Config, _ *broker.Config) {
				cfg.Logger = logger(&log, slog.LevelDebug)
				cfg.Application = onAuthorize(func() error {
					if c.during == nil {
						return nil
					}

					return c.during(s)
				})
			})

			if c.before != nil {
				if err := c.before(s); err != nil {
					t.Fatal(err)
				}
			}

			resp := s.request(t, "GET", "/events", "Accept: text/event-stream", "Origin: https://app.example.com")
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}

			awaitLine(t, &log, `level=DEBUG msg="stream rejected"`, "cause="+c.cause, "address=127.0.0.1", "origin=https://app.example.com", c.more)

			if n := s.handler.Rejected()[c.cause]; n != 1 {
				t.Errorf("%d rejections are counted, want 1", n)
			}

			if opened := log.With("stream opened"); len(opened) > 0 {
				t.Errorf("a rejected stream is logged as opened: %q", opened)
			}
		})
	}
}

// bare hides the descriptors of connections.
type bare struct{ net.Listener }

func (l bare) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()

	return struct{ net.Conn }{conn}, err
}

func TestFailedTakeOverIsLogged(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("epoll requires Linux")
	}

	var log testbed.Log

	b := broker.New(broker.Config{Shards: 1, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: time.Minute, Retry: time.Second, WriteTimeout: time.Minute})

	h, err := ssehttp.New(ssehttp.Config{Engine: ssehttp.Epoll, Path: "/events", Anonymous: true, Logger: logger(&log, slog.LevelDebug)}, b, nil)
	if err != nil {
		t.Fatal(err)
	}

	web := httptest.NewUnstartedServer(h)
	web.Listener = bare{web.Listener}
	web.Start()
	t.Cleanup(func() {
		b.Close()
		_ = h.Close()
		web.Close()
	})

	const n = 3

	for range n {
		if resp, err := http.Get(web.URL + "/events"); err == nil {
			resp.Body.Close()
			t.Errorf("a stream was opened: %s", resp.Status)
		}
	}

	// The connection is closed before the rejection is logged. The client may
	// repeat a request without a response.
	if !testbed.Eventually(time.Minute, func() bool {
		return len(log.With(`level=DEBUG msg="stream rejected"`, "cause=failed", "address=127.0.0.1", "has no descriptor")) >= n
	}) {
		t.Errorf("fewer than %d rejections are logged:\n%s", n, &log)
	}

	awaitLine(t, &log, "level=WARN", `msg="stream not opened"`, "has no descriptor")
}

func TestOpenedAndClosedStreamsAreLogged(t *testing.T) {
	onAll(t, testOpenedAndClosedStreamsAreLogged)
}

func testOpenedAndClosedStreamsAreLogged(t *testing.T, via path) {
	var log testbed.Log
	var level slog.LevelVar

	level.Set(slog.LevelDebug)

	s := start(t, via, func(cfg *ssehttp.Config, _ *broker.Config) { cfg.Logger = logger(&log, &level) })
	transport := "transport=" + via.transport()

	// open returns once a stream has its first block.
	open := func(target string, headers ...string) func() {
		t.Helper()

		resp := s.request(t, "GET", target, append(headers, "Accept: text/event-stream")...)
		block(t, bufio.NewReader(resp.Body))

		return func() { resp.Body.Close() }
	}

	hangUp := open("/events?topic=news&topic=orders.7&access_token=good-alice", "Origin: https://app.example.com", "Last-Event-ID: abc-7")
	awaitLine(t, &log, `level=DEBUG msg="stream opened"`, "user=alice", "topics=2", "address=127.0.0.1", "origin=https://app.example.com", transport, "last_event_id=abc-7")
	hangUp()
	awaitLine(t, &log, `level=DEBUG msg="stream closed"`, "user=alice", "address=127.0.0.1", transport, "reason=hung_up", "duration=", "bytes=")

	if strings.Contains(log.String(), "good-alice") {
		t.Errorf("the log contains the token:\n%s", &log)
	}

	log.Take()
	open("/events", "Authorization: Bearer good-bob")
	awaitLine(t, &log, `msg="stream opened"`, "user=bob")

	if _, err := s.broker.Disconnect("bob", 0); err != nil {
		t.Fatal(err)
	}

	awaitLine(t, &log, `msg="stream closed"`, "user=bob", "reason=disconnected")

	hangUp = open("/events")
	awaitLine(t, &log, `msg="stream opened"`, `user=""`, "topics=0")

	for _, start := range []string{"since=all", "since=1m30s", "since=2026-11-27T09:30:00Z", "rewind=7", "last_event_id=abc-8"} {
		open("/events?" + start)
		awaitLine(t, &log, `msg="stream opened"`, " "+start+"\n")
	}

	// The level applies to streams that are opened from then on.
	level.Set(slog.LevelInfo)
	hangUp()
	open("/events", "Authorization: Bearer good-carol")
	level.Set(slog.LevelDebug)
	open("/events", "Authorization: Bearer good-dora")
	awaitLine(t, &log, `msg="stream opened"`, "user=dora")
	s.broker.Close()
	awaitLine(t, &log, `msg="stream closed"`, "user=dora", "reason=shutdown")

	if found := log.With("carol"); len(found) > 0 {
		t.Errorf("a stream that was opened at log level info is logged: %q", found)
	}
}
