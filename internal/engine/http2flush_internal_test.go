//go:build linux

package engine

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/http2conn"
)

// handlerFunc is a [Handler] that never waits, and a [Guard] that allows everything.
type handlerFunc func(w http.ResponseWriter, r *http.Request)

func (f handlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) { f(w, r) }
func (handlerFunc) Waits(*http.Request) bool                           { return false }
func (handlerFunc) Direct(net.Addr) bool                               { return true }
func (handlerFunc) Trusted(net.Addr) bool                              { return false }
func (handlerFunc) NoRequest(string)                                   {}
func (handlerFunc) TooManyRequests(string)                             {}

// newEngine returns an engine with one set, which is closed when the test ends.
func newEngine(t *testing.T) *Engine {
	t.Helper()

	e, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// listenerFor returns a listener without a socket.
func listenerFor(e *Engine, handle handlerFunc) *Listener {
	return &Listener{
		engine: e,
		cfg: ListenConfig{
			Path: "/events", Handler: handle, Other: handle, Guard: handle, Logger: slog.New(slog.DiscardHandler),
			HeaderTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeader: 16 << 10,
		},
		closed: make(chan struct{}),
		passed: make(chan accepted, maxPassed),
		http2:  http2conn.NewServer(http2conn.Config{MaxStreams: maxRunning, MaxHeaderBytes: 16 << 10}),
	}
}

// socketpair returns two descriptors that are connected.
func socketpair(t *testing.T) (a, b int) {
	t.Helper()

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return pair[0], pair[1]
}

// connOver returns a connection that owns a descriptor.
func connOver(t *testing.T, fd int) net.Conn {
	t.Helper()

	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// blockedRequests returns what an HTTP/2 client sends to get n responses for which
// it opens no window, and then what it sends to get them all at once.
func blockedRequests(n int) (requests, open []byte) {
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})

	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := range n {
		block.Reset()
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/events"}} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
	requests = bytes.Clone(out.Bytes())

	out.Reset()
	_ = framer.WriteWindowUpdate(0, 1<<24)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	return requests, out.Bytes()
}

// TestFlushAfterClose resets a connection while several responses wait for its
// window. Flushes are nested then, and an inner one closes the descriptor, whose
// number is used again at once. The outer ones must not write to it.
func TestFlushAfterClose(t *testing.T) { //nolint:paralleltest // Another test might get the number.
	body := strings.Repeat("x", maxUnsent)
	l := listenerFor(newEngine(t), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
	served, client := socketpair(t)
	requests, open := blockedRequests(8)
	set := l.engine.sets[0]
	l.serveHTTP2(connOver(t, served), set, nil, requests)

	other, reused := socketpair(t)
	defer unix.Close(other)

	c := set.shared()[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	fd := int(c.fd)
	c.release = func() {
		if err := unix.Dup3(reused, fd, unix.O_CLOEXEC); err != nil {
			t.Error(err)
		}
	}
	_ = unix.Close(client)
	c.receive(open)
	if !c.closed || c.fd != -1 || c.out != nil || c.waiting != nil {
		t.Errorf("closed %t, descriptor %d, %d bytes of output, %d requests waiting; want true, -1, none", c.closed, c.fd, len(c.out), len(c.waiting))
	}

	_, _ = unix.Close(reused), unix.Close(fd)
	stray := make([]byte, 100)
	if n, err := unix.Read(other, stray); n != 0 || err != nil {
		t.Errorf("another connection with the same number got %x, %v; want only the end", stray[:max(n, 0)], err)
	}
}
