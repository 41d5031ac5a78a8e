//go:build linux

package engine

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/tlsrecord"
)

// newSession returns a TLS session, the connection that it is on, and that of its
// client.
func newSession(t *testing.T) (s *session, conn, client net.Conn) {
	t.Helper()

	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	served, peer := socketpair(t)
	conn, client = connOver(t, served), connOver(t, peer)

	var handshake sync.WaitGroup
	defer handshake.Wait()
	handshake.Go(func() {
		if err := tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
			t.Error(err)
		}
	})
	cfg := &tls.Config{Certificates: web.TLS.Certificates, NextProtos: []string{"http/1.1"}}
	_, layer, err := tlsrecord.NewHandshaker(cfg, 1, nil).Handshake(t.Context(), conn)
	if err != nil || layer == nil {
		t.Fatalf("the handshake returned the layer %v, and %v", layer, err)
	}
	return &session{layer: layer}, conn, client
}

// drain reads what has arrived on a connection.
func drain(t *testing.T, conn net.Conn) {
	t.Helper()

	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	err = raw.Read(func(fd uintptr) bool {
		for {
			if n, err := unix.Read(int(fd), buf); n <= 0 || err != nil {
				return true
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTruncatedResponse closes a connection whose socket has accepted only a part of
// a response. The last record is incomplete, so nothing may follow it.
func TestTruncatedResponse(t *testing.T) {
	t.Parallel()

	e := newEngine(t)
	s, conn, client := newSession(t)
	fd, err := descriptor(conn)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.UnixConn).SetWriteBuffer(16 << 10)
	c := &incoming{listener: listenerFor(e, nil), set: e.sets[0], conn: conn, fd: fd, tls: s, state: handling, answered: 1}

	if c.respond(make([]byte, 1<<20)) {
		t.Fatal("the socket has accepted 1 MB")
	}
	drain(t, client)
	c.end()
	if c.fd != -1 {
		t.Errorf("the descriptor is %d, want -1", c.fd)
	}
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	if rest, err := io.ReadAll(client); len(rest) > 0 || err != nil {
		t.Errorf("after an incomplete record the client got %d bytes, %v", len(rest), err)
	}
}
