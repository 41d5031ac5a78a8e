package engine_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/peald/peald/internal/engine"
	"github.com/peald/peald/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a server whose requests for /events the engine reads, while net/http
// gets the others.
type served struct {
	addr    string
	silent  atomic.Int64 // connections without a request
	waits   atomic.Bool
	web     *http.Server
	trusted atomic.Bool
	handle  func(w http.ResponseWriter, r *http.Request) // for /events
}

func (s *served) Direct(net.Addr) bool                             { return true }
func (s *served) Trusted(net.Addr) bool                            { return s.trusted.Load() }
func (s *served) TooManyRequests(string)                           {}
func (s *served) NoRequest(string)                                 { s.silent.Add(1) }
func (s *served) Waits(*http.Request) bool                         { return s.waits.Load() }
func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handle(w, r) }

// serve starts a server. The engine's handler is answer; net/http answers with
// "net/http" and the request's body.
func serve(t *testing.T, headerTimeout time.Duration, answer func(w http.ResponseWriter, r *http.Request)) *served {
	t.Helper()
	return serveTLS(t, headerTimeout, nil, answer)
}

// serveTLS is like serve, with a configuration of TLS.
func serveTLS(t *testing.T, headerTimeout time.Duration, cfg *tls.Config, answer func(w http.ResponseWriter, r *http.Request)) *served {
	t.Helper()

	e, err := engine.New(2)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	s := &served{addr: tcp.Addr().String(), handle: answer}
	l := e.Listen(tcp, engine.ListenConfig{
		TLS: cfg, Path: "/events", Handler: s, Other: s, Guard: s, Logger: slog.New(slog.DiscardHandler),
		HeaderTimeout: headerTimeout, IdleTimeout: headerTimeout, MaxHeader: 16 << 10,
	})
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "net/http %s %s %s", r.Method, r.URL, body)
	})}
	s.web = web
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(l) }()

	t.Cleanup(func() {
		if err := web.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// exchange sends raw bytes, a part at a time, and returns everything that comes
// back until the server closes the connection, or the number of responses.
func (s *served) exchange(t *testing.T, responses int, parts ...string) (answers []string) {
	t.Helper()

	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	for _, part := range parts {
		if _, err := io.WriteString(conn, part); err != nil {
			t.Fatal(err)
		}
	}

	r := bufio.NewReader(conn)
	for range responses {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return append(answers, err.Error())
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusBadRequest {
			answers = append(answers, "400") // the text is net/http's
			continue
		}
		answers = append(answers, fmt.Sprintf("%d %s", resp.StatusCode, body))
	}
	return answers
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusTeapot)
	fmt.Fprintf(w, "engine %s %s %s", r.URL.RawQuery, r.Host, r.Header.Get("X"))
}

func TestRequests(t *testing.T) { //nolint:tparallel // Subtests change the server.
	t.Parallel()

	s := serve(t, time.Minute, echo)
	long := strings.Repeat("x", 12<<10)
	for name, test := range map[string]struct {
		parts []string
		want  []string
	}{
		"one write":       {[]string{"GET /events?a=1 HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n"}, []string{"418 engine a=1 h y"}},
		"bytes":           {strings.Split("GET /events HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n", ""), []string{"418 engine  h y"}},
		"large":           {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nX: ", long, "\r\n\r\n"}, []string{"418 engine  h " + long}},
		"two":             {[]string{"GET /events HTTP/1.1\r\nHost: 1\r\n\r\nGET /events HTTP/1.1\r\nHost: 2\r\n\r\n"}, []string{"418 engine  1 ", "418 engine  2 "}},
		"one and a half":  {[]string{"GET /events HTTP/1.1\r\nHost: 1\r\n\r\nGET /eve", "nts HTTP/1.1\r\nHost: 2\r\n\r\n"}, []string{"418 engine  1 ", "418 engine  2 "}},
		"then another":    {[]string{"GET /events HTTP/1.1\r\nHost: 1\r\n\r\n", "POST /x HTTP/1.1\r\nHost: 2\r\nContent-Length: 4\r\n\r\nbo", "dy"}, []string{"418 engine  1 ", "200 net/http POST /x body"}},
		"close":           {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", ""}, []string{"418 engine  h ", "unexpected EOF"}},
		"another path":    {[]string{"GET /eventsource HTTP/1.1\r\nHost: h\r\n\r\n"}, []string{"200 net/http GET /eventsource "}},
		"another method":  {[]string{"OPTIONS /events HTTP/1.1\r\nHost: h\r\n\r\n"}, []string{"200 net/http OPTIONS /events "}},
		"HTTP/1.0":        {[]string{"GET /events HTTP/1.0\r\n\r\n"}, []string{"200 net/http GET /events "}},
		"absolute form":   {[]string{"GET http://h/events HTTP/1.1\r\nHost: h\r\n\r\n"}, []string{"200 net/http GET http://h/events "}},
		"encoded path":    {[]string{"GET /events%20 HTTP/1.1\r\nHost: h\r\n\r\n"}, []string{"200 net/http GET /events%20 "}},
		"a body":          {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo", "dy"}, []string{"200 net/http GET /events body"}},
		"chunks":          {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "0\r\n\r\n"}, []string{"200 net/http GET /events ab"}},
		"bare line feeds": {[]string{"GET /events HTTP/1.1\nHost: h\n\n"}, []string{"200 net/http GET /events "}},
		"bare line feeds before another request": {
			[]string{"GET /events HTTP/1.1\r\nHost: a\n\nPOST /x HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\nbody"},
			[]string{"200 net/http GET /events ", "200 net/http POST /x body"},
		},
		"a bare line feed before the end": {
			[]string{"GET /events HTTP/1.1\r\nHost: a\n\r\n"}, []string{"200 net/http GET /events "},
		},
		"a target with a space": {[]string{"GET /events?x HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n"}, []string{"400"}},
		"no host":               {[]string{"GET /events HTTP/1.1\r\n\r\n"}, []string{"400"}},
		"two hosts":             {[]string{"GET /events HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"}, []string{"400"}},
		"malformed host":        {[]string{"GET /events HTTP/1.1\r\nHost: a b\r\n\r\n"}, []string{"400"}},
		"malformed name":        {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nX Y: z\r\n\r\n"}, []string{"400"}},
		"malformed value":       {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n"}, []string{"400"}},
		"folded header":         {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n"}, []string{"418 engine  h a b"}},
		"malformed target":      {[]string{"GET /events?%zz\x7f HTTP/1.1\r\nHost: h\r\n\r\n"}, []string{"400"}},
		"too large":             {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nX: ", long, long, "\r\n\r\n"}, []string{"200 net/http GET /events "}},
		"an upgrade":            {[]string{"GET /events HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"}, []string{"200 net/http GET /events "}},
	} {
		for _, waits := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", name, waits), func(t *testing.T) {
				s.waits.Store(waits)
				if got := s.exchange(t, len(test.want), test.parts...); fmt.Sprint(got) != fmt.Sprint(test.want) {
					t.Errorf("got %.200q, want %.200q", got, test.want)
				}
			})
		}
	}
}

// TestManyRequests checks that a connection is closed after a number of responses,
// without losing the last one.
func TestManyRequests(t *testing.T) {
	t.Parallel()

	s := serve(t, time.Minute, echo)
	// Some of them may be forgotten in the meantime.
	got := s.exchange(t, 10_000, strings.Repeat("GET /events HTTP/1.1\r\nHost: h\r\n\r\n", 500))
	last := len(got) - 1
	if last < 50 || last == 500 || got[last-1] != "418 engine  h " || got[last] != "unexpected EOF" {
		t.Errorf("%d answers, the last %q; want at least 50 and the end", last, got[last])
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()

	s := serve(t, time.Minute, func(http.ResponseWriter, *http.Request) { panic("a bug") })
	for range 3 {
		if got := s.exchange(t, 1, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n"); fmt.Sprint(got) != "[unexpected EOF]" {
			t.Errorf("got %q, want the end of the connection", got)
		}
	}
}

func TestSilentConnections(t *testing.T) {
	t.Parallel()

	s := serve(t, 100*time.Millisecond, echo)
	for i, part := range []string{"", "GET /ev", "GET /events HTTP/1.1\r\nHost: h"} {
		if got := s.exchange(t, 1, part); fmt.Sprint(got) != "[unexpected EOF]" {
			t.Errorf("after %q got %q, want the end of the connection", part, got)
		}
		if got := s.silent.Load(); got != int64(i+1) {
			t.Errorf("%d connections without a request, want %d", got, i+1)
		}
	}

	// An idle connection closes too, but it has sent a request.
	if got := s.exchange(t, 2, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n"); len(got) != 2 || got[1] != "unexpected EOF" {
		t.Errorf("got %q, want one response and the end of the connection", got)
	}
	if got := s.silent.Load(); got != 3 {
		t.Errorf("%d connections without a request, want 3", got)
	}
}

// TestUnfinishedHandshakes checks that a handshake that takes too long is given up,
// without an answer.
func TestUnfinishedHandshakes(t *testing.T) {
	t.Parallel()

	s := serveTLS(t, 100*time.Millisecond, &tls.Config{NextProtos: []string{"h2"}}, echo)
	for i, part := range []string{"", "\x16\x03\x01", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc"} {
		if got := s.exchange(t, 1, part); fmt.Sprint(got) != "[unexpected EOF]" {
			t.Errorf("after %q got %q, want the end of the connection", part, got)
		}
		if !testbed.Eventually(time.Minute, func() bool { return s.silent.Load() == int64(i+1) }) {
			t.Errorf("%d connections without a request, want %d", s.silent.Load(), i+1)
		}
	}
}

// TestClientHangsUp checks that a request that waits learns of it.
func TestClientHangsUp(t *testing.T) {
	t.Parallel()

	arrived, gone := make(chan struct{}), make(chan struct{})
	s := serve(t, time.Minute, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	s.waits.Store(true)

	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
	<-arrived
	_ = conn.Close()
	<-gone
}
