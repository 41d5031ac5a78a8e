package engine

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/peald/peald/internal/tlsrecord"
)

// session is the state of a TLS connection after its handshake. Its receiving
// side belongs to the goroutine of an epoll set, its sending side to whoever
// writes to the connection.
type session struct {
	layer  *tlsrecord.Layer
	state  *tls.ConnectionState // until the connection has a stream
	sealed []byte               // received, but not a whole record
	alert  tlsrecord.Alert      // what to send when the connection is closed
	mute   bool                 // send no alert, because the client has sent one
}

// open decrypts the records in input, in place, and appends the plaintext to
// plain. It keeps a record that isn't complete. An error means that the
// connection has ended.
func (s *session) open(plain, input []byte) ([]byte, error) {
	for len(input) > 0 {
		data, n, err := s.layer.Open(input)
		if alert, ok := errors.AsType[*tlsrecord.AlertError](err); ok {
			s.alert = alert.Alert
		}
		if _, ok := errors.AsType[*tlsrecord.PeerAlertError](err); ok {
			s.mute = true
		}
		if err != nil {
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

// closeNotify appends the alert that ends the connection: close_notify, unless
// the client has sent something wrong.
func (s *session) closeNotify(dst []byte) []byte {
	if s.mute {
		return dst
	}
	return s.layer.SealAlert(dst, s.alert)
}

// handshake performs the TLS handshake of a connection, and then serves it.
func (l *Listener) handshake(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(l.cfg.HeaderTimeout))
	tc, layer, err := l.handshaker.Handshake(l.requests, conn)
	if err != nil {
		// Load balancers that check whether the port is open cause these too.
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
		conn := tlsrecord.NewConn(conn, layer, state)
		conn.Prepend(nil, sealed)
		l.pass(conn, nil)
	}
}
