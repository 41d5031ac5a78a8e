package tlsrecord_test

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// splitConn writes each byte on its own.
type splitConn struct{ net.Conn }

func (c splitConn) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}

	return len(p), nil
}

// TestHandshakeFragmented performs a handshake in segments of one byte.
func TestHandshakeFragmented(t *testing.T) {
	server, client := configs(t)
	serverConn, clientConn := net.Pipe()
	defer serverConn.Close()
	defer clientConn.Close()

	p := handshake(t, tlsrecord.NewHandshaker(server, 1, nil), splitConn{serverConn}, tls.Client(splitConn{clientConn}, client))
	p.requireLayer(t)

	if len(p.received) > 0 {
		t.Errorf("%d bytes were read ahead", len(p.received))
	}
}

// joinConn keeps what is written while joining is set, and writes it all at once
// afterwards.
type joinConn struct {
	net.Conn

	joining bool
	kept    []byte
}

func (c *joinConn) Write(p []byte) (int, error) {
	if !c.joining {
		return c.Conn.Write(p)
	}
	c.kept = append(c.kept, p...)

	return len(p), nil
}

func (c *joinConn) flush() error {
	c.joining = false
	_, err := c.Conn.Write(c.kept)

	return err
}

// TestReadAhead sends requests in the same segment as the client's Finished message.
func TestReadAhead(t *testing.T) {
	forEachSuite(t, func(t *testing.T) {
		server, config := configs(t)
		serverConn, clientConn := pipe(t)

		// The client writes its second flight after it has verified the server's.
		join := &joinConn{Conn: clientConn}
		config.VerifyConnection = func(tls.ConnectionState) error {
			join.joining = true
			return nil
		}
		client := tls.Client(join, config)
		sent := make(chan error, 1)

		go func() {
			for range 3 {
				if _, err := io.WriteString(client, strings.Repeat("GET / ", 100)); err != nil {
					sent <- err
					return
				}
			}
			sent <- join.flush()
		}()

		_, layer, err := tlsrecord.NewHandshaker(server, 1, nil).Handshake(t.Context(), serverConn)
		if err != nil || layer == nil {
			t.Fatalf("layer %v, %v", layer, err)
		}

		if err := <-sent; err != nil {
			t.Fatal(err)
		}

		unread := layer.Unread()
		if len(unread) == 0 || layer.Unread() != nil {
			t.Errorf("%d bytes are unread, want some once", len(unread))
		}

		p := &peers{conn: serverConn, layer: layer, received: unread}

		var got []byte
		for len(got) < 3*600 {
			plain, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, plain...)
		}

		if string(got) != strings.Repeat("GET / ", 300) {
			t.Errorf("received %q", got)
		}
	})
}
