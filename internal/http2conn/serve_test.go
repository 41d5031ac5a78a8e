package http2conn_test

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/peald/peald/internal/http2conn"
)

// serve serves connections to a loopback address, which it returns, until the test
// ends. Requests are answered as app describes.
func serve(tb testing.TB, cfg http2conn.Config) string {
	tb.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := http2conn.NewServer(cfg)

	var (
		conns   sync.WaitGroup
		mu      sync.Mutex
		open    []net.Conn
		stopped bool
	)
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			if stopped {
				conn.Close()
			}
			mu.Unlock()
			conns.Go(func() { serveConn(server, conn) })
		}
	})
	tb.Cleanup(func() {
		listener.Close()
		mu.Lock()
		stopped = true
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		conns.Wait()
	})

	return listener.Addr().String()
}

// serveConn serves one connection with one goroutine.
func serveConn(server *http2conn.Server, conn net.Conn) {
	defer conn.Close()

	a := &app{codec: http2conn.NewCodec()}
	c := server.NewConn(a)
	buf := make([]byte, 32<<10)
	for {
		a.out = c.AppendOutput(a.out)
		if _, err := conn.Write(a.out); err != nil {
			c.Close(err)
			return
		}
		a.out = a.out[:0]
		if c.Draining() && c.Streams() == 0 {
			linger(conn)
			return
		}

		n, err := conn.Read(buf)
		if err != nil {
			c.Close(err)
			return
		}
		if err := c.Receive(a.codec, buf[:n]); err != nil {
			conn.Write(c.AppendOutput(a.out))
			linger(conn)
			return
		}
	}
}

// linger ends the connection so that the client reads GOAWAY, rather than the reset
// that unread bytes cause.
func linger(conn net.Conn) {
	conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, conn)
}

// app answers requests: with as many bytes as the path names, or else with the body
// of the request.
type app struct {
	codec *http2conn.Codec
	out   []byte
}

func (a *app) Request(st *http2conn.Stream, r *http.Request) {
	response := &response{head: r.Method == http.MethodHead}
	st.Value = response
	if n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")); err == nil {
		response.body = pattern(n)
	}
	st.Continue(a.codec)
	if r.Body != nil {
		a.respond(st)
	}
}

func (a *app) Data(st *http2conn.Stream, p []byte, end bool) {
	response := st.Value.(*response)
	response.body = append(response.body, p...)
	st.Consumed(len(p))
	if end {
		a.respond(st)
	}
}

func (a *app) respond(st *http2conn.Stream) {
	response := st.Value.(*response)
	st.SendHeaders(a.codec, http.StatusOK, http.Header{"Content-Type": {"text/plain"}}, response.head)
	a.Writable(st)
}

func (a *app) Writable(st *http2conn.Stream) {
	response := st.Value.(*response)
	var n int
	a.out, n = st.Send(a.out, [][]byte{response.body})
	response.body = response.body[n:]
	if len(response.body) == 0 {
		a.out = st.End(a.out)
	}
}

func (*app) Closed(*http2conn.Stream, error) {}

type response struct {
	body []byte
	head bool
}

// pattern returns n bytes in which each position is recognizable.
func pattern(n int) []byte {
	p := make([]byte, 0, n+8)
	for i := 0; len(p) < n; i++ {
		p = append(strconv.AppendInt(p, int64(i), 10), ' ')
	}

	return p[:n]
}
