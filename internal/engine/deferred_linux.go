package engine

import (
	"errors"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/broker"
)

// Defer is like [Engine.TakeOver], but for a response that is sent later and in one
// piece. The connection may serve further requests after it. The caller writes the
// whole body at once, over HTTP/1.x together with the response's head, and then closes
// it with the reason [broker.Answered]. Over HTTP/1.x, the connection is closed after
// the response unless the body is a [Reusable] whose Reusable method returns true. A
// client whose request was read by net/http therefore opens a new connection, whose
// requests the engine reads.
func (e *Engine) Defer(w http.ResponseWriter, r *http.Request) (Body, bool, error) {
	switch w := w.(type) {
	case *http2Request:
		body, err := w.takeOver()
		return body, true, err
	case *response:
		w.taken = true
		return w.conn.deferResponse(w.request.Close), true, nil
	}
	if r.Body != http.NoBody {
		return nil, false, nil // Closing with unread input could reset the connection and discard the response.
	}
	return e.TakeOver(w, r)
}

// errGone is the error for a response to a client that has closed its connection.
var errGone = errors.New("the client has closed the connection")

// deferred is the part of a [Body] that returns the connection to its epoll set after
// the response.
type deferred struct {
	conn  *incoming
	close bool // the connection must be closed after the response
}

// deferredSocket is the body of a deferred response over HTTP/1.1 without TLS.
type deferredSocket struct {
	socket
	deferred
}

// deferredTLS is the body of a deferred response over HTTP/1.1 with TLS.
type deferredTLS struct {
	tlsSocket
	deferred
}

// deferResponse returns a body for the deferred response to the current request.
func (c *incoming) deferResponse(closeAfter bool) Body {
	worn := c.countRequest()
	d := deferred{conn: c, close: closeAfter || worn}
	sock := socket{set: c.set, fd: c.fd, generation: c.generation}
	if c.tls == nil {
		return &deferredSocket{sock, d}
	}
	return &deferredTLS{tlsSocket{socket: sock, tls: session{layer: c.tls.layer}}, d}
}

// Reusable implements [Reusable].
func (d *deferred) Reusable() bool {
	l := d.conn.listener
	d.close = d.close || l.isClosed() || l.engine.leaving.Load()
	return !d.close
}

// Attach implements [Body].
func (d *deferredSocket) Attach(st *broker.Stream, done func()) error {
	d.stream, d.done = st, done
	return d.watch(st)
}

// Attach implements [Body].
func (d *deferredTLS) Attach(st *broker.Stream, done func()) error {
	d.stream, d.done = st, done
	return d.watch(st)
}

// watch makes the set report events to st. Until the response has been sent, nothing
// more is read from the client.
func (d *deferred) watch(st *broker.Stream) error {
	c := d.conn
	if c.tls != nil && c.tls.ended {
		return errGone
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	if c.state == gone {
		return errGone
	}
	c.stream = st
	return c.set.watch(unix.EPOLL_CTL_MOD, c.fd, c.generation, unix.EPOLLRDHUP) // This also reports a hang-up that came before.
}

// Finish implements [Body].
func (d *deferredSocket) Finish(rest []byte) {
	_, _ = write(d.fd, [][]byte{rest}, nil) // The client may be gone.
	d.Close(broker.Shutdown)
}

// Finish implements [Body].
func (d *deferredTLS) Finish(rest []byte) {
	sealed := d.tls.layer.Seal(nil, [][]byte{rest})
	if n, err := write(d.fd, [][]byte{sealed}, nil); err == nil {
		d.sealed = sealed[n:]
	}
	d.Close(broker.Shutdown)
}

// Close implements [broker.Sink].
func (d *deferredSocket) Close(why broker.Reason) {
	d.finish(why)
	d.done()
}

// Close implements [broker.Sink].
func (d *deferredTLS) Close(why broker.Reason) {
	if len(d.sealed) > 0 {
		d.conn.tls.mute = true // An alert would end up in the middle of a record.
	}
	d.finish(why)
	d.done()
}

// finish returns the connection to its set after a complete response, and closes it
// otherwise.
func (d *deferred) finish(why broker.Reason) {
	if why != broker.Answered || d.close || !d.conn.set.reuse(d.conn) {
		d.conn.end()
	}
}

// reuse makes the set read the next request of c, first from c.buf and then from the
// socket. It returns false if that isn't possible. Any goroutine may call it.
func (s *pollSet) reuse(c *incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || c.state == gone {
		return false
	}
	events := uint32(readable)
	if c.started = len(c.buf) == 0; !c.started {
		events |= unix.EPOLLOUT // reported at once
	}
	if s.watch(unix.EPOLL_CTL_MOD, c.fd, c.generation, events) != nil {
		return false
	}
	c.state, c.cancel, c.stream = waiting, nil, nil
	s.start(&c.timer, c, c.listener.cfg.IdleTimeout)
	return true
}
