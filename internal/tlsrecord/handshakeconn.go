package tlsrecord

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// readAhead is the size of a read during a handshake, in bytes. A browser's ClientHello
// with a post-quantum key share takes about 1.8 KB.
const readAhead = 4096

// phase identifies what is using the connection.
type phase = uint32

const (
	phaseHandshake phase = iota
	phaseTLS             // crypto/tls, without restrictions
	phaseLayer           // a layer; crypto/tls must not use it any more
)

// handshakeConn is the connection on which crypto/tls performs a handshake. Read
// returns bytes from only one record until crypto/tls has read all of it. While Read
// and Write wait for the client, they give up the handshake's permit.
//
// After the handshake, it passes everything through if crypto/tls continues, and
// nothing if a layer does.
type handshakeConn struct {
	net.Conn

	phase   atomic.Uint32
	buffers *sync.Pool // of *[readAhead]byte
	permit  permit

	buf        *[readAhead]byte // nil if nothing has been read ahead
	start, end int              // the range of the bytes in buf that haven't been returned yet
	rest       int              // how many bytes of the current record haven't been returned yet

	capture        bool   // TLS 1.3 is possible
	sent           []byte // what crypto/tls has written, if capture is set
	client, server secret
}

// NetConn returns the underlying connection.
func (c *handshakeConn) NetConn() net.Conn { return c.Conn }

func (c *handshakeConn) Read(p []byte) (int, error) {
	switch c.phase.Load() {
	case phaseLayer:
		return 0, net.ErrClosed
	case phaseTLS:
		if c.buf == nil {
			return c.Conn.Read(p)
		}

		n := copy(p, c.buf[c.start:c.end])
		c.consume(n)

		return n, nil
	default:
		return c.readRecord(p)
	}
}

// readRecord reads bytes of one record.
func (c *handshakeConn) readRecord(p []byte) (int, error) {
	if c.rest == 0 {
		for c.end-c.start < headerSize {
			if err := c.fill(); err != nil {
				return 0, err
			}
		}

		header := c.buf[c.start:]
		c.rest = headerSize + int(header[3])<<8 + int(header[4])
	}

	if c.start == c.end {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}

	n := copy(p, c.buf[c.start:min(c.end, c.start+c.rest)])
	c.rest -= n
	c.consume(n)

	return n, nil
}

// fill reads from the connection into the buffer.
func (c *handshakeConn) fill() error {
	if c.buf == nil {
		c.buf = c.buffers.Get().(*[readAhead]byte) //nolint:forcetypeassert // The pool has no other type.
	}

	c.end = copy(c.buf[:], c.buf[c.start:c.end])
	c.start = 0

	c.permit.release()
	n, err := c.Conn.Read(c.buf[c.end:])
	c.end += n

	if !c.permit.acquire() {
		return net.ErrClosed
	}

	if n > 0 {
		return nil // If there was an error, it occurs again.
	}

	return err
}

// consume removes n bytes from the buffer, and frees the buffer when it is empty.
func (c *handshakeConn) consume(n int) {
	c.start += n
	if c.start == c.end {
		c.free()
	}
}

// free returns the buffer to the pool.
func (c *handshakeConn) free() {
	if c.buf != nil {
		c.buffers.Put(c.buf)
	}
	c.buf, c.start, c.end = nil, 0, 0
}

func (c *handshakeConn) Write(p []byte) (int, error) {
	switch c.phase.Load() {
	case phaseLayer:
		return 0, net.ErrClosed
	case phaseTLS:
		return c.Conn.Write(p)
	}

	if c.capture {
		c.sent = append(c.sent, p...)
	}

	c.permit.release()
	n, err := c.Conn.Write(p)

	if !c.permit.acquire() && err == nil {
		err = net.ErrClosed
	}

	return n, err
}

// Close closes the connection, unless it belongs to a layer.
func (c *handshakeConn) Close() error {
	if c.phase.Load() == phaseLayer {
		return nil
	}

	return c.Conn.Close()
}

// SetDeadline sets the deadlines of the connection, unless it belongs to a layer.
func (c *handshakeConn) SetDeadline(t time.Time) error { return c.setDeadline(c.Conn.SetDeadline, t) }

// SetReadDeadline is like SetDeadline, but only for Read.
func (c *handshakeConn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(c.Conn.SetReadDeadline, t)
}

// SetWriteDeadline is like SetDeadline, but only for Write. [tls.Conn.Close] calls it.
func (c *handshakeConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(c.Conn.SetWriteDeadline, t)
}

func (c *handshakeConn) setDeadline(set func(time.Time) error, t time.Time) error {
	if c.phase.Load() == phaseLayer {
		return net.ErrClosed
	}

	return set(t)
}

// finish ends the handshake. It overwrites the secrets, and leaves the connection to
// crypto/tls or to a layer.
func (c *handshakeConn) finish(next phase) {
	c.client, c.server, c.sent = secret{}, secret{}, nil
	c.permit.release()
	c.phase.Store(next)
}

// permit allows one handshake to compute. The number of permits is limited.
type permit struct {
	ctx     context.Context //nolint:containedctx // A permit lives as long as the call that the context belongs to.
	permits chan struct{}

	held     bool
	since    time.Time
	computed time.Duration // while the permit was held
}

// acquire waits for the permit, and reports whether the permit was granted before the
// context was canceled.
func (p *permit) acquire() bool {
	select {
	case p.permits <- struct{}{}:
	default:
		select {
		case p.permits <- struct{}{}:
		case <-p.ctx.Done():
			return false
		}
	}
	p.held, p.since = true, time.Now()

	return true
}

// release gives up the permit if it is held.
func (p *permit) release() {
	if !p.held {
		return
	}
	p.held = false
	p.computed += time.Since(p.since)
	<-p.permits
}
