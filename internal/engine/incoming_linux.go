package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/broker"
)

// incoming is a connection that has no stream: its next request is being read or
// handled. Unless noted otherwise, its fields belong to the goroutine of its set, or to
// that of the request.
type incoming struct {
	listener *Listener
	set      *pollSet
	conn     transport // owns the descriptor
	fd       int32     // -1 once the connection has another owner, or is closed
	answered int32     // responses so far, minus those that countRequest has forgotten
	counted  int64     // when answered was last reduced, in Unix milliseconds
	buf      []byte    // an incomplete request, or those that follow the one being handled
	tls      *session  // nil for plain text
	started  bool      // the bytes that were read before have been processed

	// The fields below are guarded by pollSet.mu.

	generation uint32
	state      incomingState
	timer      timer          // runs in the state waiting
	cancel     func()         // cancels the request if it has a goroutine; nil otherwise
	stream     *broker.Stream // the stream of a deferred response; nil otherwise
}

// incomingState is the state of a connection without a stream.
type incomingState uint8

const (
	waiting  incomingState = iota // for a complete request
	handling                      // a request
	gone                          // closed, passed on, or taken over by a stream
)

// maxAnswered is the number of requests after which a connection is closed, unless it
// belongs to a trusted proxy. answersPerSecond of these requests are forgotten every
// second. A client whose streams stay open needs only a few requests. A client that is
// rejected repeatedly, or whose polls are answered immediately, must reconnect.
const (
	maxAnswered      = 50
	answersPerSecond = 10
)

func (c *incoming) number() uint32 { return c.generation }

// ready implements [entry].
func (c *incoming) ready(events uint32) {
	if c.state == handling {
		// Only a request with a goroutine or a deferred response can get here.
		cancel, stream := c.cancel, c.stream
		c.set.mu.Unlock()
		switch {
		case stream != nil && events&hungUp != 0:
			stream.HangUp()
		case stream != nil && events&unix.EPOLLOUT != 0:
			stream.Ready()
		case stream == nil && events&hungUp != 0 && cancel != nil:
			cancel()
		}
		return
	}
	c.set.mu.Unlock()

	if !c.started {
		c.started = true
		// The first request may have arrived along with the end of the handshake, and a
		// later request along with the one before it.
		if kept := c.kept(); len(kept)+len(c.buf) > 0 {
			c.arrived(c.set.input[:copy(c.set.input, kept)])
		}
		if !c.set.isWaiting(c) {
			return
		}
	}
	c.read(events&hungUp != 0)
}

// kept returns the bytes read from the socket that don't form a complete request or
// record.
func (c *incoming) kept() []byte {
	if c.tls != nil {
		return c.tls.sealed
	}
	return c.buf
}

// read reads some of what the client has sent and handles it. It stops early, so a
// client that sends fast can't keep the set from serving other connections. If the
// client has hung up, the remaining bytes are read in further turns.
func (c *incoming) read(toEnd bool) {
	input := c.set.input[:copy(c.set.input, c.kept())]
	n, errno := receive(c.fd, input[len(input):cap(input)])
	switch {
	case errno == unix.EAGAIN:
		return
	case errno != 0 || n == 0:
		c.end()
		return
	}

	mayHaveMore := len(input)+n == cap(input) || toEnd
	c.arrived(input[:len(input)+n])
	if mayHaveMore && !c.set.rearm(c) {
		c.end()
	}
}

// arrived handles input, which holds everything that has been read from the socket but
// not handled yet.
func (c *incoming) arrived(input []byte) {
	if c.tls != nil {
		plain, err := c.tls.open(c.set.plain[:copy(c.set.plain, c.buf)], input)
		if err != nil {
			// The client may have sent a request before it stopped sending.
			defer c.endIfWaiting()
		}
		input = plain
	}
	if c.receive(input) == incomplete {
		c.buf = append(c.buf[:0], input...)
	}
}

func (c *incoming) endIfWaiting() {
	if c.set.isWaiting(c) {
		c.end()
	}
}

// receive handles input, which is what the client has sent so far, unless the request
// is incomplete.
func (c *incoming) receive(input []byte) verdict {
	cfg := &c.listener.cfg
	size, what := classify(input, cfg.Path, cfg.MaxHeader)
	if what == http2Preface && c.tls != nil {
		what = foreign // over TLS, HTTP/2 must be negotiated (RFC 9113 §3.3)
	}
	switch what {
	case incomplete:
	case foreign:
		c.passOn(input)
	case http2Preface:
		c.switchToHTTP2(input)
	case complete:
		c.buf = nil
		r := parse(input[:size], cfg.Path)
		if r == nil {
			c.passOn(input)
			return foreign
		}
		c.handle(r, input[size:])
	}
	return what
}

// handle handles a request. rest is what the client has sent after it.
func (c *incoming) handle(r *http.Request, rest []byte) {
	r.RemoteAddr = c.conn.RemoteAddr().String()
	if len(rest) > 0 {
		c.buf = bytes.Clone(rest)
	}
	w := &response{conn: c, request: r, header: make(http.Header, 8)}
	if !c.listener.cfg.Handler.Waits(r) {
		if c.set.begin(c, nil) {
			c.serve(w, r)
			c.finish(w, true)
		}
		return
	}

	ctx, cancel := context.WithCancel(c.listener.requests)
	if !c.set.admit(c.listener) {
		cancel()
		c.end()
		return
	}
	if !c.set.begin(c, cancel) {
		c.listener.running.Done()
		cancel()
		return
	}
	go func() {
		defer c.listener.running.Done()
		defer cancel()
		c.serve(w, r.WithContext(ctx))
		c.finish(w, false)
	}()
}

// serve calls the handler. If the handler panics, the connection is closed.
func (c *incoming) serve(w *response, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			w.abort = true
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				c.listener.cfg.Logger.Error("panic while handling a request", "error", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
		}
	}()
	c.listener.cfg.Handler.ServeHTTP(w, r)
}

// countRequest counts a request, and reports whether the connection must be closed
// after its response.
func (c *incoming) countRequest() (worn bool) {
	now := time.Now().UnixMilli()
	if forgotten := (now - c.counted) * answersPerSecond / 1000; forgotten > 0 {
		c.answered = max(c.answered-int32(min(forgotten, maxAnswered)), 0)
		c.counted = now
	}
	c.answered++
	return c.answered >= maxAnswered && !c.listener.cfg.Guard.Trusted(c.conn.RemoteAddr())
}

// finish sends the response unless the connection has been taken over, and then waits
// for the next request. inSet means that the caller is the set's goroutine; no other
// goroutine may read that request.
func (c *incoming) finish(w *response, inSet bool) {
	if w.taken {
		return
	}
	worn := c.countRequest()
	w.close = w.close || worn || c.listener.isClosed()

	if !w.abort {
		out := w.bytes()
		if !c.respond(out) {
			w.close = true
		}
	}
	if w.close || w.abort {
		c.end()
		return
	}

	switch {
	case !inSet:
		if !c.set.reuse(c) {
			c.end()
		}
	case !c.set.await(c, c.listener.cfg.IdleTimeout):
		c.end()
	case len(c.buf) > 0:
		c.receive(bytes.Clone(c.buf))
	}
}

// respond writes a response, and reports whether the socket has accepted all of it.
func (c *incoming) respond(out []byte) bool {
	if c.tls != nil {
		out = c.tls.layer.Seal(nil, [][]byte{out})
	}
	n, err := write(c.fd, [][]byte{out}, nil)
	if err == nil && n == len(out) {
		return true
	}
	if c.tls != nil {
		c.tls.mute = true // An alert would end up in the middle of a record.
	}
	return false
}

// passOn passes the connection to net/http, along with the bytes read from it.
func (c *incoming) passOn(input []byte) {
	if !c.set.detach(c) {
		return
	}
	conn, err := connFrom(c.take())
	switch {
	case err != nil:
		c.listener.cfg.Logger.Warn("connection not passed on", "error", err)
	case c.tls != nil:
		c.listener.pass(newTLSConn(conn, c.tls, bytes.Clone(input), c.tls.sealed), nil)
	default:
		c.listener.pass(&readConn{Conn: conn, read: bytes.Clone(input)}, nil)
	}
}

// switchToHTTP2 makes the connection continue with HTTP/2. input holds the bytes read
// so far.
func (c *incoming) switchToHTTP2(input []byte) {
	if c.set.detach(c) {
		c.listener.serveHTTP2(c.take(), c.set, nil, input)
	}
}

// take returns the connection to be closed or passed to its next owner. c must not use
// it any more.
func (c *incoming) take() transport {
	c.fd = -1
	return c.conn
}

// expire implements [expirer].
func (c *incoming) expire() { c.end() }

// end closes the connection.
func (c *incoming) end() {
	if !c.set.detach(c) {
		return
	}
	if c.answered == 0 && !c.listener.isClosed() {
		c.listener.cfg.Guard.NoRequest(c.conn.RemoteAddr().String())
	}
	if c.tls != nil {
		_, _ = write(c.fd, [][]byte{c.tls.closeNotify(nil)}, nil)
		c.tls.layer.Wipe()
	}
	_ = c.take().Close()
}

// receive reads from a socket without blocking.
func receive(fd int32, buf []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
