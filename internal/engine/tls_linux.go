package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/peald/peald/internal/tlsrecord"
)

// session is the state of a TLS connection after its handshake. Its receiving side
// belongs to the epoll set's goroutine, and its sending side to the goroutine that
// writes to the connection.
type session struct {
	layer  *tlsrecord.Layer
	state  *tls.ConnectionState // nil once the connection has a stream
	sealed []byte               // received, but not a whole record
	alert  tlsrecord.Alert      // the alert to send when the connection is closed
	mute   bool                 // send no alert: the client has sent one, or the last record is incomplete
	ended  bool                 // the client has ended the connection, or sent something invalid
}

// open decrypts the records in input, in place, and appends the plaintext to plain. It
// keeps an incomplete record for the next call. An error means that the connection has
// ended.
func (s *session) open(plain, input []byte) ([]byte, error) {
	for {
		data, n, err := s.layer.Open(input)
		if alert, ok := errors.AsType[*tlsrecord.AlertError](err); ok {
			s.alert = alert.Alert
		}
		if _, ok := errors.AsType[*tlsrecord.PeerAlertError](err); ok {
			s.mute = true
		}
		if err != nil {
			s.sealed, s.ended = nil, true
			return plain, err
		}
		if n == 0 {
			break
		}
		plain = append(plain, data...)
		input = input[n:]
	}

	if s.sealed = append(s.sealed[:0], input...); len(input) == 0 {
		s.sealed = nil
	}
	return plain, nil
}

// closeNotify appends the alert that ends the connection: close_notify, unless the
// client has sent something invalid. It appends nothing if the session is mute.
func (s *session) closeNotify(dst []byte) []byte {
	if s.mute {
		return dst
	}
	return s.layer.SealAlert(dst, s.alert)
}

// handshake performs the TLS handshake of a connection, and then serves it.
func (l *Listener) handshake(from transport) {
	conn, err := connFrom(from)
	if err != nil {
		l.cfg.Logger.Warn("connection not served", "error", err)
		return
	}

	_ = conn.SetDeadline(time.Now().Add(l.cfg.HeaderTimeout))
	tc, layer, err := l.handshaker.Handshake(l.requests, conn)
	if err != nil {
		// Load balancers that check whether the port is open cause such errors too.
		l.cfg.Logger.Debug("TLS handshake failed", "address", conn.RemoteAddr().String(), "error", err)
		_ = conn.Close()
		if !l.isClosed() {
			l.cfg.Guard.NoRequest(conn.RemoteAddr().String())
		}
		return
	}

	_ = conn.SetDeadline(time.Time{})
	if layer == nil {
		l.pass(tc, nil)
		return
	}
	state := tc.ConnectionState()
	if state.NegotiatedProtocol == "h2" {
		l.serveHTTP2(conn, l.engine.nextSet(), &session{layer: layer, sealed: layer.Unread()}, nil)
		return
	}
	sealed := layer.Unread()
	if !l.watch(conn, &session{layer: layer, state: &state, sealed: sealed}) {
		l.pass(newTLSConn(conn, &session{layer: layer, state: &state}, nil, sealed), nil)
	}
}

// tlsConn is a connection that net/http serves, and that TakeOver may take back.
type tlsConn struct{ *tlsrecord.Conn }

// newTLSConn returns a connection from which plain and sealed have already been read.
// It takes ownership of all its arguments.
func newTLSConn(conn net.Conn, s *session, plain, sealed []byte) *tlsConn {
	c := tlsrecord.NewConn(conn, s.layer, *s.state)
	c.Prepend(plain, sealed)
	return &tlsConn{c}
}

// passedAddr is the local address of a tlsConn, and identifies it as one. The address
// is all that a handler can see of its connection without hijacking it, and hijacking
// can't be undone.
type passedAddr struct{ net.Addr }

// LocalAddr implements [net.Conn].
func (c *tlsConn) LocalAddr() net.Addr { return passedAddr{c.Conn.LocalAddr()} }

// passedOn reports whether net/http got the connection of r as a tlsConn.
func passedOn(r *http.Request) bool {
	_, ok := r.Context().Value(http.LocalAddrContextKey).(passedAddr)
	return ok
}

// detach returns the connection and its session. It discards unread plaintext, just as
// a stream ignores what its client sends. If it returns an error, c is closed.
func (c *tlsConn) detach() (net.Conn, *session, error) {
	conn, layer, sealed, err := c.Detach()
	if err != nil {
		_ = c.Close()
		return nil, nil, fmt.Errorf("take over TLS connection: %w", err)
	}
	s := &session{layer: layer}
	_, _ = s.open(nil, sealed) // An error is reported to the stream.
	return conn, s, nil
}
