package ssehttp_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/testbed"
	"github.com/peald/peald/ssehttp"
)

// TestPollsInARow sends requests before the responses to earlier ones, in pieces, and
// checks that each gets its response.
func TestPollsInARow(t *testing.T) {
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprint(waits), func(t *testing.T) {
			onEach(t, enginePaths()[:2], func(t *testing.T, via path) { testPollsInARow(t, via, waits) })
		})
	}
}

func testPollsInARow(t *testing.T, via path, waits bool) {
	s := start(t, via, func(c *ssehttp.Config, b *broker.Config) {
		keepingHistory(c, b)
		if waits {
			c.Application = onAuthorize(func() error { return nil })
		}
	})
	conn := s.connect(t)
	request := func(query, header string) string {
		return "GET /events?" + query + " HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n" + header + "\r\n"
	}
	long := request("wait=1m", "X: "+strings.Repeat("x", 3000)+"\r\n")
	begin := s.poll(t, "").Position
	for _, part := range []string{
		request("wait=1m", "") + request("last_event_id="+begin, "") + long[:50], // the rest comes while the first one waits
		long[50:1000], long[1000:], request("last_event_id=x-1", "") + "OPTIONS /events HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		if _, err := io.WriteString(conn, part); err != nil {
			t.Fatal(err)
		}
	}

	r := bufio.NewReader(conn)
	next := func() (*http.Response, string) {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp, read(t, resp)
	}
	await := func() {
		if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Waiting == 1 }) {
			t.Fatal("no poll waits")
		}
	}
	await()
	one := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "one"})
	for _, want := range []string{one.ID, one.ID} {
		if _, body := next(); strings.Count(body, want) != 2 {
			t.Errorf("got %q, want an event and a position %s", body, want)
		}
	}
	await()
	two := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "two"})
	if _, body := next(); strings.Count(body, two.ID) != 2 {
		t.Errorf("got %q, want an event and a position %s", body, two.ID)
	}
	if _, body := next(); !strings.Contains(body, `"unknown"`) {
		t.Errorf("got %q, want a reset", body)
	}
	if resp, body := next(); resp.StatusCode != http.StatusNoContent {
		t.Errorf("got %d %q from net/http", resp.StatusCode, body)
	}
}

// TestPollConnectionsAreClosed checks when a connection is closed after a poll.
func TestPollConnectionsAreClosed(t *testing.T) {
	onEach(t, enginePaths()[:2], testPollConnectionsAreClosed)
}

func testPollConnectionsAreClosed(t *testing.T, via path) {
	for name, c := range map[string]struct {
		header string
		stop   func(t *testing.T, s *server)
	}{
		"by the client": {"Connection: close\r\n", func(t *testing.T, s *server) { s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "x"}) }},
		"by a drain":    {"", func(t *testing.T, s *server) { _ = s.broker.Drain(t.Context(), 0) }},
		"by a handler that drains": {"", func(t *testing.T, s *server) {
			s.handler.Drain()
			s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "x"})
		}},
		"at the end": {"", func(_ *testing.T, s *server) { s.broker.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, via, keepingHistory)
			conn := s.connect(t)
			if _, err := io.WriteString(conn, "GET /events?wait=1m HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n"+c.header+"\r\n"); err != nil {
				t.Fatal(err)
			}
			if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Waiting == 1 }) {
				t.Fatal("the poll doesn't wait")
			}
			c.stop(t, s)
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body := read(t, resp); !resp.Close || !strings.HasPrefix(body, `{"events":[`) {
				t.Errorf("close %v, %q", resp.Close, body)
			}
			if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("after the response: %v, want EOF", err)
			}
		})
	}
}

// TestPollsReadByNetHTTP makes polls on the engine whose requests net/http reads. They
// cost no goroutine, but their connection.
func TestPollsReadByNetHTTP(t *testing.T) {
	onEach(t, enginePaths()[:2], testPollsReadByNetHTTP)
}

func testPollsReadByNetHTTP(t *testing.T, via path) {
	for name, requests := range map[string]string{
		"HTTP/1.0":          "GET /events?wait=1m HTTP/1.0\r\nAccept: application/json\r\n\r\n",
		"after a preflight": "OPTIONS /events HTTP/1.1\r\nHost: x\r\n\r\nGET /events?wait=1m HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n",
	} {
		s := start(t, via, keepingHistory)
		conn := s.connect(t)
		if _, err := io.WriteString(conn, requests); err != nil {
			t.Fatal(err)
		}
		if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Waiting == 1 }) {
			t.Fatalf("%s: the poll doesn't wait", name)
		}
		if engines := s.handler.Engines(); engines["epoll"] != 1 || engines["nethttp"] != 0 {
			t.Errorf("%s: engines %v", name, engines)
		}
		s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "x"})
		r := bufio.NewReader(conn)
		if strings.HasPrefix(requests, "OPTIONS") {
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != http.StatusNoContent {
				t.Fatalf("%s: %v, %v", name, resp, err)
			}
			_ = resp.Body.Close()
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, resp); !resp.Close || !strings.Contains(body, `"data":"x"`) {
			t.Errorf("%s: close %v, %q", name, resp.Close, body)
		}
		_ = resp.Body.Close()
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: after the response: %v, want EOF", name, err)
		}
	}
}

// TestWaitingPollsCostNoGoroutines opens many polls on the engine.
func TestWaitingPollsCostNoGoroutines(t *testing.T) {
	onEach(t, enginePaths(), testWaitingPollsCostNoGoroutines)
}

func testWaitingPollsCostNoGoroutines(t *testing.T, via path) {
	polls := 200
	if via.http2 {
		polls = 100 // on one connection
	}
	s := start(t, via, func(c *ssehttp.Config, b *broker.Config) {
		keepingHistory(c, b)
		c.Application = onAuthorize(func() error { return nil }) // requests have a goroutine
	})
	var conns []net.Conn
	var streams sync.WaitGroup
	if via.http2 {
		for range polls {
			streams.Go(func() { s.poll(t, "wait=1m") })
		}
	} else {
		for range polls {
			conn := s.connect(t)
			conns = append(conns, conn)
			if _, err := io.WriteString(conn, "GET /events?wait=1m HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Waiting == polls }) {
		t.Fatalf("%d polls wait, want %d", s.broker.Polls().Waiting, polls)
	}

	serving := func() int {
		buf := make([]byte, 16<<20)
		buf = buf[:runtime.Stack(buf, true)]
		return strings.Count(string(buf), "ssehttp.(*Handler).ServeHTTP(")
	}
	if !testbed.Eventually(time.Minute, func() bool { return serving() == 0 }) {
		t.Errorf("%d goroutines handle requests", serving())
	}
	s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "x"})
	streams.Wait()
	for _, conn := range conns {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, resp); !strings.Contains(body, `"data":"x"`) || resp.Close {
			t.Errorf("got %q, close %v", body, resp.Close)
		}
		_ = resp.Body.Close()
	}
}

// TestPollsLoseNothing polls all the time while events are published, and checks that
// every event arrives once.
func TestPollsLoseNothing(t *testing.T) { onAll(t, testPollsLoseNothing) }

func testPollsLoseNothing(t *testing.T, via path) {
	s := start(t, via, keepingHistory)
	const events, clients = 300, 5
	begin := s.poll(t, "").Position
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			var got []string
			position := begin
			for polls := 0; len(got) < events; polls++ {
				query := "last_event_id=" + position
				if (polls+i)%3 > 0 {
					query += "&wait=30s"
				}
				p := s.poll(t, query)
				for _, e := range p.Events {
					got = append(got, e.Data)
				}
				position = p.Position
				if p.Reset != nil {
					t.Errorf("a reset after %d events: %+v", len(got), p.Reset)
					return
				}
			}
			for n, data := range got {
				if data != fmt.Sprint(n) {
					t.Errorf("event %d is %q", n, data)
					return
				}
			}
		})
	}
	for n := range events {
		s.publish(t, broker.Message{Audience: broker.Everyone(), Data: fmt.Sprint(n)})
		if n%7 == 0 {
			testbed.Eventually(time.Millisecond, func() bool { return s.broker.Polls().Waiting == clients })
		}
	}
	running.Wait()
}

// TestPollsAreLogged checks the log lines of polls.
func TestPollsAreLogged(t *testing.T) { onBoth(t, testPollsAreLogged) }

func testPollsAreLogged(t *testing.T, via path) {
	log := new(testbed.Log)
	s := start(t, via, func(c *ssehttp.Config, b *broker.Config) {
		keepingHistory(c, b)
		c.Logger = logger(log, slog.LevelDebug)
	})
	s.poll(t, "rewind=3", "Authorization: Bearer good-alice")
	awaitLine(t, log, `msg="poll answered"`, "user=alice", "topics=0", "rewind=3", "reason=answered", "result=empty", "events=0")
	waiting := s.wait(t, "wait=1m&topic=news", "Authorization: Bearer good-alice")
	s.publish(t, broker.Message{Audience: broker.ToTopic("news"), Data: "secret"})
	<-waiting
	awaitLine(t, log, `msg="poll answered"`, "user=alice", "topics=1", "transport="+via.transport(), "reason=answered", "result=events", "events=1")

	conn := s.connect(t)
	if _, err := io.WriteString(conn, "GET /events?wait=1m&last_event_id=x-7 HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, log, `msg="poll answered"`, "last_event_id=x-7", "result=reset")
	if _, err := io.WriteString(conn, "GET /events?wait=1m HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Waiting == 1 }) {
		t.Fatal("the poll doesn't wait")
	}
	_ = conn.Close()
	awaitLine(t, log, `msg="poll closed"`, "reason=hung_up")
	if strings.Contains(log.String(), "secret") || len(log.With("stream opened"))+len(log.With("stream closed")) > 0 {
		t.Errorf("the log is\n%s", log)
	}
}
