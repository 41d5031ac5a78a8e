package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Client is a client over HTTP/2 with prior knowledge.
type http2Client struct {
	*http2.Framer

	conn *net.TCPConn
	next uint32 // the id of its next request
}

// dialHTTP2 connects with these settings.
func (s *served) dialHTTP2(t *testing.T, settings ...http2.Setting) *http2Client {
	t.Helper()

	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c := &http2Client{Framer: http2.NewFramer(conn, conn), conn: conn.(*net.TCPConn), next: 1}
	if err := c.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return c
}

// request sends the header of a request. fields follow those that it must have.
func (c *http2Client) request(method, path string, end bool, fields ...[2]string) error {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	all := append([][2]string{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", path}}, fields...)
	for _, field := range all {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	id := c.next
	c.next += 2
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: end, EndHeaders: true})
}

// awaitResponse reads frames until a response has ended.
func (c *http2Client) awaitResponse() error {
	for {
		f, err := c.ReadFrame()
		if err != nil || f.Header().StreamID != 0 && f.Header().Flags.Has(http2.FlagDataEndStream) {
			return err
		}
	}
}

// untilEnd reads frames until the server closes the connection.
func (c *http2Client) untilEnd(t *testing.T) {
	t.Helper()

	for {
		if _, err := c.ReadFrame(); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection is still open")
		} else if err != nil {
			return
		}
	}
}

// TestUnreadResponses sends requests without reading the responses. They must
// occupy streams, which are limited, until the connection is closed.
func TestUnreadResponses(t *testing.T) {
	t.Parallel()

	var handled atomic.Int32
	body := strings.Repeat("x", 60<<10)
	s := serve(t, 200*time.Millisecond, func(w http.ResponseWriter, _ *http.Request) {
		handled.Add(1)
		_, _ = io.WriteString(w, body)
	})
	s.trusted.Store(true) // The limit of requests must not be what protects the server.
	c := s.dialHTTP2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = c.conn.SetReadBuffer(4 << 10)
	if err := c.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}

	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for sent := 0; c.request("GET", "/events", true) == nil; sent++ {
		if n := handled.Load(); n > 1000 {
			t.Fatalf("%d requests were handled although the client reads no response", n)
		}
		if sent > 2000 {
			<-pause.C // Only the time limit is left.
		}
	}
}

// TestBlockedResponse sends a request whose response the client's window keeps
// back. The connection must not stay open for it.
func TestBlockedResponse(t *testing.T) {
	t.Parallel()

	s := serve(t, 100*time.Millisecond, echo)
	c := s.dialHTTP2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if err := c.request("GET", "/events", true); err != nil {
		t.Fatal(err)
	}
	c.untilEnd(t)
}

// TestTruncatedBody closes a connection before a request's body is complete.
func TestTruncatedBody(t *testing.T) {
	t.Parallel()

	arrived, read := make(chan struct{}), make(chan error, 1)
	s := serve(t, time.Minute, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		_, err := io.ReadAll(r.Body)
		read <- err
	})
	c := s.dialHTTP2(t)
	if err := c.request("POST", "/upload", false); err != nil {
		t.Fatal(err)
	}
	<-arrived
	_ = c.conn.Close()
	if err := <-read; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading a part of the body ended with %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// TestIdleTimeBeginsAnew keeps a connection busy for longer than it may be idle.
func TestIdleTimeBeginsAnew(t *testing.T) {
	t.Parallel()

	const idle = 2 * time.Second
	pause := time.NewTicker(idle / 20)
	defer pause.Stop()
	s := serve(t, idle, echo)
	c := s.dialHTTP2(t)
	for began := time.Now(); time.Since(began) < 2*idle; {
		if err := c.request("GET", "/events", true); err != nil {
			t.Fatal(err)
		}
		if err := c.awaitResponse(); err != nil {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		<-pause.C
	}
}

// TestCloseCancelsRequests closes the server while requests over HTTP/2 wait: one
// for the end of its context, and one for its body.
func TestCloseCancelsRequests(t *testing.T) {
	t.Parallel()

	arrived := make(chan string, 2)
	s := serve(t, time.Minute, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- r.Method
		if r.Method == http.MethodGet {
			<-r.Context().Done()
			return
		}
		if _, err := io.ReadAll(r.Body); err == nil {
			t.Error("the body was read to its end")
		}
	})
	s.waits.Store(true)
	c := s.dialHTTP2(t)
	if err := errors.Join(c.request("GET", "/events", true), c.request("POST", "/events", false)); err != nil {
		t.Fatal(err)
	}
	<-arrived
	<-arrived
	if err := s.web.Close(); err != nil { // waits for requests
		t.Error(err)
	}
}

// TestTurns sends many requests over one connection, and then one over another
// connection in the same epoll set. That one's turn must come after 32 KiB over
// HTTP/2, and 64 KiB over HTTP/1.1.
func TestTurns(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		dial func(s *served, t *testing.T) func(query, header string)
		most int
	}{
		"HTTP1": {(*served).sendHTTP1, 64 << 10},
		"HTTP2": {(*served).sendHTTP2, 32 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testTurns(t, test.dial, test.most)
		})
	}
}

// sendHTTP1 connects, and returns a function that sends a request.
func (s *served) sendHTTP1(t *testing.T) func(query, header string) {
	t.Helper()

	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(query, header string) {
		t.Helper()
		if _, err := fmt.Fprintf(conn, "GET /events?%s HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", query, header); err != nil {
			t.Fatal(err)
		}
	}
}

// sendHTTP2 is like sendHTTP1, over HTTP/2.
func (s *served) sendHTTP2(t *testing.T) func(query, header string) {
	t.Helper()

	c := s.dialHTTP2(t)
	return func(query, header string) {
		t.Helper()
		if err := c.request("GET", "/events?"+query, true, [2]string{"x", header}); err != nil {
			t.Fatal(err)
		}
	}
}

func testTurns(t *testing.T, dial func(s *served, t *testing.T) func(query, header string), most int) {
	t.Helper()

	const size = 8 << 10

	handled := make(chan string, 100)
	arrived, resume := make(chan struct{}), make(chan struct{})
	s := serve(t, time.Minute, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "blocks" {
			close(arrived)
			<-resume
		}
		handled <- r.URL.RawQuery
	})
	s.trusted.Store(true) // may send any number of requests

	busy := dial(s, t)
	dial(s, t)("first", "") // in the other set
	other := dial(s, t)
	busy("first", "")
	other("first", "")
	for range 3 {
		<-handled
	}

	// While the set's goroutine is blocked, requests gather in its sockets.
	busy("blocks", "")
	<-arrived
	sent := 3 * most / size
	for range sent {
		busy("busy", strings.Repeat("~", size))
	}
	other("other", "")
	close(resume)

	if got := <-handled; got != "blocks" {
		t.Fatalf("the set's goroutine handled %q while it was blocked", got)
	}
	before := 0
	for <-handled == "busy" {
		before++
	}
	if before > most/size {
		t.Errorf("%d requests of %d bytes were handled in one turn, want at most %d", before, size, most/size)
	}
	for ; before < sent; before++ {
		if got := <-handled; got != "busy" {
			t.Errorf("the request %q was handled instead of the rest", got)
		}
	}
}
