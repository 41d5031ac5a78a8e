package tlsrecord_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/peald/peald/internal/testbed"
	"github.com/peald/peald/internal/tlsrecord"
)

// handshakeTimeout bounds handshakes that a bug would block.
const handshakeTimeout = 30 * time.Second

// configs returns configurations for a server and for a client that trusts it.
func configs(tb testing.TB) (server, client *tls.Config) {
	tb.Helper()

	files := testbed.NewCertificate(tb)

	certificate, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		tb.Fatal(err)
	}

	client = files.Client("http/1.1")
	client.ServerName = "127.0.0.1"

	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil },
	}, client
}

// pipe returns two ends of a TCP connection, which buffers as net.Pipe doesn't.
func pipe(tb testing.TB) (server, client net.Conn) {
	tb.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()

	client, err = net.Dial("tcp", listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}

	server, err = listener.Accept()
	if err != nil {
		tb.Fatal(err)
	}

	tb.Cleanup(func() {
		client.Close()
		server.Close()
	})

	return server, client
}

// peers are both sides of a connection after the handshake.
type peers struct {
	conn   net.Conn // of the server
	tls    *tls.Conn
	layer  *tlsrecord.Layer
	client *tls.Conn

	received []byte // ciphertext that open hasn't decrypted yet
}

// connect performs a handshake over TCP.
func connect(tb testing.TB, h *tlsrecord.Handshaker, config *tls.Config) *peers {
	tb.Helper()

	server, client := pipe(tb)

	return handshake(tb, h, server, tls.Client(client, config))
}

// handshake performs a handshake between conn and the client.
func handshake(tb testing.TB, h *tlsrecord.Handshaker, conn net.Conn, client *tls.Conn) *peers {
	tb.Helper()

	ctx, cancel := context.WithTimeout(tb.Context(), handshakeTimeout)
	defer cancel()

	clientErr := make(chan error, 1)
	go func() { clientErr <- client.HandshakeContext(ctx) }()

	tc, layer, err := h.Handshake(ctx, conn)
	if err != nil {
		conn.Close()
		tb.Fatalf("server: %v; client: %v", err, <-clientErr)
	}

	if err := <-clientErr; err != nil {
		tb.Fatalf("client: %v", err)
	}

	p := &peers{conn: conn, tls: tc, layer: layer, client: client}
	if layer != nil {
		p.received = layer.Unread()
	}

	return p
}

// requireLayer fails the test unless the layer has taken over.
func (p *peers) requireLayer(tb testing.TB) *peers {
	tb.Helper()

	if p.layer == nil {
		tb.Fatal("the connection has no layer")
	}

	return p
}

// open reads from the connection until the layer returns data or an error.
func (p *peers) open() ([]byte, error) {
	for {
		plain, n, err := p.layer.Open(p.received)
		p.received = p.received[n:]

		switch {
		case err != nil:
			return nil, err
		case len(plain) > 0:
			return plain, nil
		case n > 0:
			continue
		}

		buf := make([]byte, tlsrecord.MaxRecord)

		n, err = p.conn.Read(buf)
		if err != nil {
			return nil, err
		}
		p.received = append(p.received, buf[:n]...)
	}
}

// exchange sends data in both directions and checks that it arrives.
func (p *peers) exchange(tb testing.TB, toClient, toServer string) {
	tb.Helper()

	if _, err := p.conn.Write(p.layer.Seal(nil, [][]byte{[]byte(toClient)})); err != nil {
		tb.Fatal(err)
	}

	got := make([]byte, len(toClient))
	if _, err := io.ReadFull(p.client, got); err != nil {
		tb.Fatalf("client: %v", err)
	}

	if string(got) != toClient {
		tb.Fatalf("the client received %q, want %q", got, toClient)
	}

	if _, err := io.WriteString(p.client, toServer); err != nil {
		tb.Fatal(err)
	}

	var received []byte
	for len(received) < len(toServer) {
		plain, err := p.open()
		if err != nil {
			tb.Fatalf("server: %v", err)
		}
		received = append(received, plain...)
	}

	if string(received) != toServer {
		tb.Fatalf("the server received %q, want %q", received, toServer)
	}
}

// closeBoth closes the connection in both directions with close_notify.
func (p *peers) closeBoth(tb testing.TB) {
	tb.Helper()

	if _, err := p.conn.Write(p.layer.SealAlert(nil, tlsrecord.AlertCloseNotify)); err != nil {
		tb.Fatal(err)
	}

	if n, err := p.client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		tb.Fatalf("the client's Read returned %d, %v; want EOF", n, err)
	}

	if err := p.client.CloseWrite(); err != nil {
		tb.Fatal(err)
	}

	if _, err := p.open(); !errors.Is(err, io.EOF) {
		tb.Fatalf("Open returned %v, want EOF", err)
	}
}

// wantAlert fails the test unless err is an AlertError with this alert.
func wantAlert(tb testing.TB, err error, want tlsrecord.Alert) {
	tb.Helper()

	alert, ok := errors.AsType[*tlsrecord.AlertError](err)
	if !ok || alert.Alert != want {
		tb.Errorf("got %v, want the alert %q", err, want)
	}
}
