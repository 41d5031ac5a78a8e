package tlsrecord

import (
	"bytes"
	"crypto/tls"
	"errors"
)

// next ends a successful handshake. It returns the layer with which the connection
// continues, or nil if it continues with crypto/tls.
func (c *handshakeConn) next(state tls.ConnectionState) *Layer {
	l, err := c.takeOver(state)
	if err != nil {
		c.finish(phaseTLS)
		return nil
	}
	c.finish(phaseLayer)

	return l
}

// takeOver returns a layer that continues after crypto/tls's handshake. If it returns
// an error, the connection must continue with crypto/tls.
func (c *handshakeConn) takeOver(state tls.ConnectionState) (*Layer, error) {
	s := suite(state.CipherSuite)

	switch {
	case !c.capture || state.Version != tls.VersionTLS13:
		return nil, errors.New("not TLS 1.3")
	case !s.supported():
		return nil, errors.New("unsupported cipher suite")
	case c.rest != 0:
		return nil, errors.New("crypto/tls stopped inside a record")
	}

	l, err := newLayer(s, c.client.bytes(), c.server.bytes())
	if err != nil {
		return nil, err
	}

	if err := l.skipTickets(c.sent); err != nil {
		l.Wipe()
		return nil, err
	}

	if c.start < c.end {
		l.unread = bytes.Clone(c.buf[c.start:c.end])
	}
	c.free()

	return l, nil
}

// skipTickets advances the outbound sequence number past the records in sent that were
// sealed under the application keys. These are session tickets, and they come last. A
// record authenticates with only one key and sequence number, so all other records fail
// to authenticate. sent is overwritten.
func (l *Layer) skipTickets(sent []byte) error {
	aead, err := l.out.newAEAD(l.suite)
	if err != nil {
		return err
	}

	for len(sent) > 0 {
		if len(sent) < headerSize {
			return errors.New("crypto/tls wrote an incomplete record")
		}

		size := headerSize + int(sent[3])<<8 + int(sent[4])
		if len(sent) < size {
			return errors.New("crypto/tls wrote an incomplete record")
		}

		record := sent[:size]
		sent = sent[size:]

		if record[0] != typeApplicationData {
			continue
		}

		inner, err := l.out.open(aead, record)

		switch {
		case err != nil && l.out.seq == 0:
			continue // It was sealed under the handshake keys.
		case err != nil:
			return errors.New("record under another key follows one under the application key")
		case !isTicket(inner):
			return errors.New("crypto/tls sent something other than session tickets")
		}
	}

	return nil
}

// isTicket reports whether a record's plaintext is a NewSessionTicket message.
func isTicket(inner []byte) bool {
	return len(inner) > 1 && inner[0] == messageNewSessionTicket && inner[len(inner)-1] == typeHandshake
}
