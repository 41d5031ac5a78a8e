package ssehttp_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// dial sends a request over a new connection, and returns a reader of the raw
// response.
func (s *server) dial(t *testing.T, request string) *bufio.Reader {
	t.Helper()

	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}

	return bufio.NewReader(conn)
}

// head reads the head of a response.
func head(t *testing.T, r *bufio.Reader) string {
	t.Helper()

	var text strings.Builder

	for !strings.HasSuffix(text.String(), "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the head ended after %q: %v", text.String(), err)
		}

		text.WriteString(line)
	}

	return text.String()
}

// TestBodyOnTheWire reads raw bodies: over HTTP/1.1 with one chunk per block and a
// last chunk, over HTTP/1.0 without chunks.
func TestBodyOnTheWire(t *testing.T) { onBoth(t, testBodyOnTheWire) }

func testBodyOnTheWire(t *testing.T, via path) {
	s := start(t, via, withHistory)
	const request = "GET /events HTTP/%s\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer good-alice\r\n\r\n"
	chunked, bare := s.dial(t, fmt.Sprintf(request, "1.1")), s.dial(t, fmt.Sprintf(request, "1.0"))

	if got := head(t, chunked); strings.Count(got, "Transfer-Encoding: chunked\r\n") != 1 || strings.Contains(got, "Content-Length") {
		t.Errorf("the head over HTTP/1.1 is %q, want the chunked transfer coding", got)
	}

	if got := head(t, bare); strings.Contains(got, "Transfer-Encoding") || strings.Contains(got, "Content-Length") {
		t.Errorf("the head over HTTP/1.0 is %q, want neither a length nor a transfer coding", got)
	}

	// Each block arrives before the next event is published.
	body := bufio.NewReader(httputil.NewChunkedReader(chunked))

	for _, r := range []*bufio.Reader{body, bare} {
		if got := block(t, r); !strings.HasPrefix(got, "retry: ") || !strings.Contains(got, "\nevent: peald.mark\nid: ") {
			t.Errorf("the first block is %q", got)
		}
	}

	for _, data := range []string{"one", strings.Repeat("x", 70_000), "three"} {
		sent := s.publish(t, broker.Message{Audience: broker.ToUser("alice"), Data: data})
		want := "id: " + sent.ID + "\nevent: individual\ndata: " + data + "\n\n"

		for _, r := range []*bufio.Reader{body, bare} {
			if got := block(t, r); got != want {
				t.Errorf("got %.60q, want %.60q", got, want)
			}
		}
	}

	if _, err := s.broker.Disconnect("alice", 0); err != nil {
		t.Fatal(err)
	}

	if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
		t.Errorf("after the disconnect the body continues with %q (%v), want its end", rest, err)
	}

	if rest, err := io.ReadAll(bare); err != nil || len(rest) > 0 {
		t.Errorf("over HTTP/1.0 the body continues with %q (%v), want its end", rest, err)
	}
}

// TestBrokenBody checks that the body has no last chunk if the daemon closes a
// stream in the middle of an event.
func TestBrokenBody(t *testing.T) { onBoth(t, testBrokenBody) }

func testBrokenBody(t *testing.T, via path) {
	s := start(t, via, nil)
	r := s.dial(t, "GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
	head(t, r)

	// This is more than the sockets and the queue can hold.
	for range 40 {
		s.publish(t, broker.Message{Audience: broker.Everyone(), Data: strings.Repeat("x", broker.MaxData)})
	}

	if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(r)); !errors.Is(err, io.ErrUnexpectedEOF) && !isReset(err) {
		t.Errorf("the body of a slow consumer ends with %v, want an incomplete body", err)
	}
}

func isReset(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)

	return ok
}

// TestRetryRepeatsTheID checks that a client that is asked to retry gets its last
// event id back if that is well-formed.
func TestRetryRepeatsTheID(t *testing.T) {
	for name, c := range map[string]struct {
		target, header string
		want           string
	}{
		"none":             {"/events", "", ""},
		"in the header":    {"/events", "abc-7", "abc-7"},
		"in the query":     {"/events?last_event_id=abc-8", "", "abc-8"},
		"the header wins":  {"/events?last_event_id=abc-8", "abc-9", "abc-9"},
		"malformed":        {"/events", "nonsense", ""},
		"an injected line": {"/events", "abc-9\ndata: x", ""},
		"a NUL":            {"/events", "abc-9\x00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := ssehttp.Config{Path: "/events", Anonymous: true, Retry: 3 * time.Second, Engine: ssehttp.NetHTTP}
			b := broker.New(broker.Config{
				Shards: 1, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: time.Second,
				Retry: time.Second, WriteTimeout: time.Second, Replica: true,
			})
			defer b.Close()

			h, err := ssehttp.New(cfg, b, nil)
			if err != nil {
				t.Fatal(err)
			}

			defer func() { _ = h.Close() }()

			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.target, http.NoBody)
			req.Header.Set("Accept", "text/event-stream")

			if c.header != "" {
				req.Header["Last-Event-Id"] = []string{c.header}
			}

			resp := httptest.NewRecorder()
			h.ServeHTTP(resp, req)

			var ms int

			rest := resp.Body.String()
			if _, err := fmt.Sscanf(rest, "retry: %d\n", &ms); err != nil || ms < 3000 || ms > 6000 {
				t.Errorf("got %q (%v), want a reconnection time of 3 to 6 s", rest, err)
			}

			want := fmt.Sprintf("retry: %d\n\n", ms)
			if c.want != "" {
				want = fmt.Sprintf("retry: %d\nid: %s\n\n", ms, c.want)
			}

			if resp.Code != http.StatusOK || rest != want {
				t.Errorf("got status %d and %q, want 200 and %q", resp.Code, rest, want)
			}
		})
	}
}
