package tlsrecord

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// minRead is the minimum size of a read buffer, in bytes.
	minRead = 1024

	// maxKept is the maximum capacity of the write buffer that a Conn keeps, in bytes.
	maxKept = 8192

	// maxSealed is the size of the chunks in which a large Write is encrypted, in
	// bytes.
	maxSealed = 4 * MaxPlaintext

	// alertTimeout limits the time for sending an alert, as in crypto/tls.
	alertTimeout = 5 * time.Second
)

// Conn is a [net.Conn] over a Layer. It behaves like a [tls.Conn] whose handshake is
// complete, so net/http can serve it.
type Conn struct {
	conn  net.Conn
	layer *Layer
	state tls.ConnectionState

	reading  sync.Mutex
	plain    []byte // not read yet; may be part of buf
	sealed   []byte // not opened yet; may be part of buf
	buf      []byte
	readErr  error // permanent
	writing  sync.Mutex
	sealBuf  []byte
	writeErr error // permanent

	// calls is twice the number of Write calls in progress, plus 1 once Close has been
	// called or Detach has succeeded. Whichever of the two adds the 1 owns the layer.
	calls atomic.Int32
}

// NewConn returns a Conn that continues l's connection on conn, and owns both. state is
// the result of the handshake. Read begins with the bytes that l.Unread returns.
func NewConn(conn net.Conn, l *Layer, state tls.ConnectionState) *Conn {
	return &Conn{conn: conn, layer: l, state: state, sealed: l.Unread()}
}

// Prepend makes Read first return plain, which the layer has already decrypted. Read
// then decrypts sealed, which was read from the connection after the layer's Unread
// bytes. Call Prepend at most once, and before Read. The Conn owns both slices.
func (c *Conn) Prepend(plain, sealed []byte) {
	c.plain = plain
	c.sealed = append(c.sealed, sealed...)
}

// Read reads application data. At the end, it returns io.EOF. As in crypto/tls, it does
// so even if the client closed the connection between two records without a
// close_notify.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()

	if len(p) == 0 {
		return 0, nil
	}

	for len(c.plain) == 0 {
		if c.readErr != nil {
			return 0, c.readErr
		}

		plain, n, err := c.layer.Open(c.sealed)
		if err != nil {
			c.readErr = err
			c.reply(err)

			return 0, err
		}
		c.plain, c.sealed = plain, c.sealed[n:]

		if n > 0 {
			continue
		}

		if err := c.fill(); err != nil {
			return 0, err
		}
	}

	n := copy(p, c.plain)
	c.plain = c.plain[n:]

	return n, nil
}

// fill reads more ciphertext. It overwrites the plaintext, so none must be left.
func (c *Conn) fill() error {
	want := minRead
	if len(c.sealed) >= headerSize {
		want = max(want, headerSize+int(c.sealed[3])<<8+int(c.sealed[4]))
	}

	// The buffer has room left, because sealed is shorter than a whole record.
	buf := c.buf
	if len(buf) < want {
		buf = make([]byte, want)
	}

	have := copy(buf, c.sealed)
	n, err := c.conn.Read(buf[have:])
	c.buf, c.sealed = buf, buf[:have+n]

	switch {
	case n > 0:
		return nil // If there was an error, it occurs again.
	case errors.Is(err, io.EOF) && have > 0:
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}

// reply sends the alert for an error that Open has returned. Nothing can be written
// afterwards.
func (c *Conn) reply(err error) {
	alert, ok := errors.AsType[*AlertError](err)
	if !ok {
		return
	}

	c.writing.Lock()
	defer c.writing.Unlock()

	// Read returns err in any case.
	_ = c.sendAlert(alert.Alert, err)
}

// sendAlert sends an alert unless a write has already failed. Later writes fail with
// the error further. The caller holds c.writing.
func (c *Conn) sendAlert(alert Alert, further error) error {
	if c.writeErr != nil {
		return c.writeErr
	}
	c.writeErr = further

	if err := c.conn.SetWriteDeadline(time.Now().Add(alertTimeout)); err != nil {
		return err
	}

	_, err := c.conn.Write(c.layer.SealAlert(nil, alert))

	return err
}

// Write writes p as application data. After an error, a record may be incomplete on the
// wire, so the error is permanent.
func (c *Conn) Write(p []byte) (n int, err error) {
	if c.calls.Add(2)&1 != 0 {
		c.calls.Add(-2)
		return 0, net.ErrClosed
	}
	defer c.calls.Add(-2)

	c.writing.Lock()
	defer c.writing.Unlock()

	if c.writeErr != nil {
		return 0, c.writeErr
	}

	for len(p) > 0 {
		chunk := p[:min(len(p), maxSealed)]
		p = p[len(chunk):]

		sealed := c.layer.Seal(c.sealBuf, [][]byte{chunk})
		if cap(sealed) <= maxKept {
			c.sealBuf = sealed[:0]
		}

		if _, err := c.conn.Write(sealed); err != nil {
			c.writeErr = err
			return n, err
		}
		n += len(chunk)
	}

	return n, nil
}

// CloseWrite sends close_notify. Like [tls.Conn.CloseWrite], it doesn't call
// CloseWrite on the underlying connection.
func (c *Conn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()

	return c.sendAlert(AlertCloseNotify, net.ErrClosed)
}

// Close sends close_notify unless a Write is in progress, closes the underlying
// connection, waits for other calls to return, and wipes the layer.
func (c *Conn) Close() error {
	before := c.calls.Or(1)
	if before&1 != 0 {
		return net.ErrClosed
	}

	if before == 0 {
		// The client may be gone, so an error doesn't matter.
		_ = c.CloseWrite()
	}
	err := c.conn.Close()

	c.reading.Lock()
	defer c.reading.Unlock()

	c.writing.Lock()
	defer c.writing.Unlock()

	c.readErr, c.writeErr = net.ErrClosed, net.ErrClosed
	c.plain, c.sealed, c.buf, c.sealBuf = nil, nil, nil, nil
	c.layer.Wipe()

	return err
}

// Detach returns the underlying connection, the layer, and the bytes read from the
// connection but not opened yet. It waits for calls in progress. Later calls fail with
// [net.ErrClosed]. Unread plaintext is lost.
//
// Detach fails if Close has been called. It also fails if nothing more can be written,
// because a record may be incomplete on the wire or an alert has been sent. The caller
// must then close c.
func (c *Conn) Detach() (conn net.Conn, l *Layer, sealed []byte, err error) {
	c.reading.Lock()
	defer c.reading.Unlock()

	c.writing.Lock()
	defer c.writing.Unlock()

	if c.writeErr != nil {
		return nil, nil, nil, c.writeErr
	}

	// Two users of a layer would reuse nonces, so a late Write must fail. Close must
	// not wipe a layer that has another owner.
	if c.calls.Or(1)&1 != 0 {
		return nil, nil, nil, net.ErrClosed
	}

	sealed = c.sealed
	c.readErr, c.writeErr = net.ErrClosed, net.ErrClosed
	c.plain, c.sealed, c.buf, c.sealBuf = nil, nil, nil, nil

	return c.conn, c.layer, sealed, nil
}

// ConnectionState returns the state of the handshake. net/http uses it for
// [http.Request.TLS].
func (c *Conn) ConnectionState() tls.ConnectionState { return c.state }

// NetConn returns the underlying connection. Reading or writing it corrupts the TLS
// session.
func (c *Conn) NetConn() net.Conn { return c.conn }

// LocalAddr returns the local address of the underlying connection.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the remote address of the underlying connection.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline sets the deadlines of Read and Write.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline sets the deadline of Read. After a timeout, Read can be called again.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of Write. After a timeout, further writes fail.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }
