package tlsrecord_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestConnDetach continues with the layer of a Conn, whose own methods must fail.
func TestConnDetach(t *testing.T) {
	server, client := newConn(t)

	conn, layer, _, err := server.Detach()
	if err != nil {
		t.Fatal(err)
	}

	if err := server.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close returned %v, want net.ErrClosed", err)
	}

	if _, err := server.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write returned %v, want net.ErrClosed", err)
	}

	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read returned %v, want net.ErrClosed", err)
	}

	if _, layer, _, err := server.Detach(); layer != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Detach returned %v, want net.ErrClosed", err)
	}

	if _, err := conn.Write(layer.Seal(nil, [][]byte{[]byte("data")})); err != nil {
		t.Fatal(err)
	}

	got := make([]byte, 4)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "data" {
		t.Errorf("the client read %q, %v", got, err)
	}
}

// slowToClose is a connection that closes when the test allows it.
type slowToClose struct {
	net.Conn

	begun, closing chan struct{}
}

func (c *slowToClose) Close() error {
	close(c.begun)
	<-c.closing

	return c.Conn.Close()
}

// TestConnDetachWhileClosing detaches a Conn while Close waits. Close will wipe the
// layer, so no one may get it.
func TestConnDetachWhileClosing(t *testing.T) {
	config, clientConfig := configs(t)
	conn, clientConn := pipe(t)
	p := handshake(t, tlsrecord.NewHandshaker(config, 1, nil), conn, tls.Client(clientConn, clientConfig)).requireLayer(t)

	slow := &slowToClose{p.conn, make(chan struct{}), make(chan struct{})}
	server := tlsrecord.NewConn(slow, p.layer, p.tls.ConnectionState())
	ended := make(chan error, 1)

	go func() { ended <- server.Close() }()
	<-slow.begun

	if _, layer, _, err := server.Detach(); layer != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Detach returned %v, want net.ErrClosed", err)
	}
	close(slow.closing)

	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestConnDetachAfterFailedWrite detaches a Conn that may have an incomplete record on
// the wire.
func TestConnDetachAfterFailedWrite(t *testing.T) {
	server, _ := newConn(t)

	if err := server.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}

	if _, err := server.Write([]byte("data")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write returned %v, want a timeout", err)
	}

	if _, layer, _, err := server.Detach(); layer != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Detach returned %v, want the timeout", err)
	}

	if err := server.Close(); err != nil {
		t.Errorf("Close returned %v", err)
	}
}
