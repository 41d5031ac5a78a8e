package engine

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/http2conn"
)

// http2Conn is an HTTP/2 connection on a bare descriptor. Its streams may belong to
// different shards, so mu guards everything, including the descriptor. If both are
// needed, mu is locked before pollSet.mu.
type http2Conn struct {
	listener *Listener
	set      *pollSet
	release  func() // releases the connection's slot in the listener; may be nil
	remote   string // the client's address and port

	// The fields below are guarded by pollSet.mu.

	generation uint32
	timer      timer // runs while the client must send something

	mu       sync.Mutex
	fd       int32 // -1 once it is closed
	conn     *http2conn.Conn
	tls      *session // nil for plain text
	out      []byte   // frames to send; borrowed from Engine.buffers unless it is nil
	left     []byte   // bytes on the wire that the socket hasn't accepted
	arrived  []*http2Request
	waiting  []http2User     // can't write until the socket accepts more
	running  []*http2Request // requests that have a goroutine
	streams  int             // event streams
	moved    bool            // the client has sent or accepted something since the timer started
	received int             // bytes received since the timer started, or since moved was set
	answered bool            // a request has arrived
	watched  bool            // the set reports when the socket can be written to
	started  bool            // the bytes that arrived with the handshake have been processed
	closed   bool            // the descriptor is closed
}

// maxTurn is the maximum number of bytes read from a connection in one turn.
const maxTurn = 32 << 10

// largestFrame is the size of the largest frame, including its TLS record. A client
// that has sent this many bytes has completed a frame.
const largestFrame = 20 << 10

// maxUnsent is the number of bytes that a connection collects from its streams before
// it sends them.
const maxUnsent = 64 << 10

// errUnread is the error for a client that keeps causing output without reading it.
var errUnread = errors.New("the client doesn't read")

// serveHTTP2 serves a connection whose client speaks HTTP/2. input is what it has
// sent so far; tls is nil for plain text. Only the goroutine of set may pass
// input.
func (l *Listener) serveHTTP2(conn transport, set *pollSet, tls *session, input []byte) {
	remote := conn.RemoteAddr()
	fd, release, err := takeDescriptor(conn)
	if err != nil {
		l.cfg.Logger.Warn("connection not taken over", "error", err)
		if tls != nil {
			tls.layer.Wipe()
		}
		return
	}

	c := &http2Conn{listener: l, set: set, release: release, remote: remote.String(), fd: fd, tls: tls}
	c.conn = l.http2.NewConn(c)
	l.engine.http2.Add(1)
	if l.cfg.Guard.Trusted(remote) {
		c.conn.Trust()
	}

	c.mu.Lock()
	set.mu.Lock()
	events := uint32(readable)
	if tls != nil {
		events |= unix.EPOLLOUT // reported at once
	}
	set.start(&c.timer, c, l.cfg.HeaderTimeout)
	err = set.add(unix.EPOLL_CTL_ADD, fd, c, &c.generation, events)
	isClosing := set.closing
	set.mu.Unlock()
	if err != nil || isClosing {
		c.fail(errConnClosed)
	}
	if len(input) > 0 && !c.closed {
		c.receive(input)
	}
	c.endTurn()
}

func (c *http2Conn) number() uint32 { return c.generation }

// ready implements [entry].
func (c *http2Conn) ready(events uint32) {
	c.set.mu.Unlock()
	c.mu.Lock()
	if !c.closed && events&unix.EPOLLOUT != 0 {
		c.resume()
	}
	if !c.closed && (!c.started || events&(unix.EPOLLIN|hungUp) != 0) {
		c.read(events&hungUp != 0)
	}
	c.endTurn()
}

// read reads and processes some of what the client has sent. It stops early, so a
// client that sends fast can't block its set, or the shards that have streams on the
// connection. If the client has hung up, the remaining bytes are read in further turns.
// The caller holds mu.
func (c *http2Conn) read(toEnd bool) {
	if c.tls != nil && !c.started {
		c.receive(c.set.input[:copy(c.set.input, c.tls.sealed)])
	}
	c.started = true

	if c.closed {
		return
	}

	kept := 0
	if c.tls != nil {
		kept = copy(c.set.input, c.tls.sealed)
	}
	buf := c.set.input[kept : kept+maxTurn]
	n, errno := receive(c.fd, buf)
	switch {
	case errno == unix.EAGAIN:
		return
	case errno != 0 || n == 0:
		c.fail(io.EOF)
		return
	}
	c.receive(c.set.input[:kept+n])
	if (n == len(buf) || toEnd) && !c.closed {
		if err := c.rearm(); err != nil {
			c.fail(err)
		}
	}
}

// rearm makes the set report the connection again if there is more to read, once
// other connections have had their turn. The caller holds mu.
func (c *http2Conn) rearm() error {
	events := uint32(readable)
	if c.watched {
		events |= unix.EPOLLOUT
	}
	return c.set.watch(unix.EPOLL_CTL_MOD, c.fd, c.generation, events)
}

// receive processes bytes that have been read. The caller holds mu.
func (c *http2Conn) receive(input []byte) {
	var ended error
	if c.tls != nil {
		input, ended = c.tls.open(c.set.plain[:0], input)
	}

	if c.received += len(input); c.received > largestFrame {
		c.received, c.moved = 0, true
	}
	codec := c.set.engine.codec()
	err := c.conn.Receive(codec, input)
	c.set.engine.codecs.Put(codec)
	if flood, ok := errors.AsType[*http2conn.Error](err); ok && flood.Flood() {
		c.listener.cfg.Guard.TooManyRequests(c.remote)
	}
	if err == nil {
		err = ended
	}
	if err != nil {
		c.flush()
		c.fail(err)
	}
}

// endTurn sends all output, unlocks mu, and handles the requests that have
// arrived.
func (c *http2Conn) endTurn() {
	c.flush()
	c.setTimer()
	arrived := c.arrived
	c.arrived = nil
	c.mu.Unlock()

	for _, w := range arrived {
		c.handle(w)
	}
}

// buffer returns the buffer for frames. The caller holds mu.
func (c *http2Conn) buffer() []byte {
	if c.out == nil {
		c.out = c.set.engine.buffer()
	}
	return c.out
}

// flush sends the frames that are ready. It may close the connection. It also lets
// requests continue their responses, which may call flush again. The caller holds mu.
func (c *http2Conn) flush() {
	if c.closed {
		return
	}
	if len(c.left) > 0 {
		if len(c.out) > maxUnsent {
			c.fail(errUnread)
		}
		return
	}
	c.conn.Wake()
	if c.closed || len(c.left) > 0 {
		return // Wake has already called flush.
	}
	if c.conn.HasOutput() {
		c.out = c.conn.AppendOutput(c.buffer())
	}
	if len(c.out) == 0 {
		return
	}

	wire := c.out
	if c.tls != nil {
		wire = c.tls.layer.Seal(c.set.engine.buffer(), [][]byte{c.out})
		defer c.set.engine.recycle(wire)
	}
	n, err := write(c.fd, [][]byte{wire}, nil)
	if n < len(wire) && err == nil {
		c.left = bytes.Clone(wire[n:])
		err = c.watchFull()
	}
	c.set.engine.recycle(c.out)
	c.out = nil
	if err != nil {
		c.fail(err)
	}
}

// flushAndWake is like flush, but then lets the streams that are waiting for it write
// again. The caller holds mu.
func (c *http2Conn) flushAndWake() {
	c.flush()
	if len(c.left) == 0 && len(c.waiting) > 0 && !c.closed {
		c.wake()
	}
}

// watchFull makes the set report when the socket can be written to again. The
// caller holds mu.
func (c *http2Conn) watchFull() error {
	if c.watched {
		return nil
	}
	c.watched = true
	return c.set.watch(unix.EPOLL_CTL_MOD, c.fd, c.generation, readable|unix.EPOLLOUT)
}

// resume continues a write that the socket has accepted only in part, and then lets the
// waiting streams write. The caller holds mu.
func (c *http2Conn) resume() {
	if len(c.left) > 0 {
		n, err := write(c.fd, [][]byte{c.left}, nil)
		if err != nil {
			c.fail(err)
			return
		}
		c.moved = c.moved || n > 0
		if c.left = c.left[n:]; len(c.left) > 0 {
			return
		}
		c.left = nil
	}
	c.wake()
}

// wake lets the waiting streams write again. The caller holds mu.
func (c *http2Conn) wake() {
	waiting := c.waiting
	c.waiting = nil
	for _, w := range waiting {
		w.resume()
	}
}

// setTimer limits how long the connection may wait for the client. The caller holds mu.
func (c *http2Conn) setTimer() {
	if c.closed {
		return
	}
	if c.conn.Draining() && c.conn.Streams() == 0 && len(c.running) == 0 && len(c.left) == 0 {
		c.fail(errConnClosed)
		return
	}

	var after time.Duration
	switch {
	case c.conn.Incomplete() || c.tls != nil && len(c.tls.sealed) > 0:
		after = c.listener.cfg.HeaderTimeout
	case c.streams == 0 && len(c.running) == 0:
		// The connection is idle, or the client isn't reading its responses. Event
		// streams have their own timeout.
		after = c.listener.cfg.IdleTimeout
	}

	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	if t := c.timer.timeout; t != nil && t.after == after && !c.moved {
		return // An incomplete frame doesn't extend its own time limit.
	}
	c.moved, c.received = false, 0
	c.timer.stop()
	if after > 0 {
		c.set.start(&c.timer, c, after)
	}
}

// expire implements [expirer].
func (c *http2Conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.conn.Close(errConnClosed)
		c.flush()
		c.fail(errConnClosed)
	}
}
