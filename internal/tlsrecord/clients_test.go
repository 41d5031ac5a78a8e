package tlsrecord_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestHandshakeErrors performs handshakes that fail.
func TestHandshakeErrors(t *testing.T) {
	t.Run("plain HTTP", func(t *testing.T) {
		server, _ := configs(t)
		serverConn, client := pipe(t)
		h := tlsrecord.NewHandshaker(server, 1, nil)

		if _, err := io.WriteString(client, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}

		tc, layer, err := h.Handshake(t.Context(), serverConn)

		header, ok := errors.AsType[tls.RecordHeaderError](err)
		if tc != nil || layer != nil || !ok || string(header.RecordHeader[:]) != "GET /" {
			t.Fatalf("got %v, %v, %v; want a RecordHeaderError", tc, layer, err)
		}

		if _, err := io.WriteString(header.Conn, "HTTP/1.0 400 Bad Request\r\n\r\n"); err != nil {
			t.Error(err)
		}

		if stats := h.Stats(); stats.Failed != 1 || stats.Full != 0 {
			t.Errorf("statistics %+v, want a failed handshake", stats)
		}
	})

	t.Run("canceled", func(t *testing.T) {
		server, _ := configs(t)
		serverConn, _ := pipe(t)
		h := tlsrecord.NewHandshaker(server, 1, nil)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()

		if _, _, err := h.Handshake(ctx, serverConn); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})

	t.Run("closed", func(t *testing.T) {
		server, _ := configs(t)
		serverConn, client := pipe(t)
		client.Close()

		if _, _, err := tlsrecord.NewHandshaker(server, 1, nil).Handshake(t.Context(), serverConn); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})

	t.Run("no certificate", func(t *testing.T) {
		server, config := configs(t)
		failure := errors.New("no certificate today")
		server.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, failure }

		serverConn, clientConn := pipe(t)
		rejected := make(chan error, 1)

		go func() { rejected <- tls.Client(clientConn, config).Handshake() }()

		if _, _, err := tlsrecord.NewHandshaker(server, 1, nil).Handshake(t.Context(), serverConn); !errors.Is(err, failure) {
			t.Errorf("got %v, want the error of GetCertificate", err)
		}

		if err := <-rejected; err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("the client got %v, want an alert", err)
		}
	})
}

// TestSlowClients tests that clients that don't send anything, or don't read, don't
// keep others from their handshakes.
func TestSlowClients(t *testing.T) {
	server, client := configs(t)

	// In a bubble, the slow handshakes are known to be blocked.
	synctest.Test(t, func(t *testing.T) {
		h := tlsrecord.NewHandshaker(server, 1, nil)
		ctx, cancel := context.WithCancel(t.Context())

		var handshakes sync.WaitGroup

		for range 3 {
			silent, idle := net.Pipe()
			defer idle.Close()

			handshakes.Go(func() { h.Handshake(ctx, silent) })

			deaf, sender := net.Pipe()
			defer sender.Close()

			handshakes.Go(func() { h.Handshake(ctx, deaf) })
			handshakes.Go(func() {
				tls.Client(&writeOnly{Conn: sender, closed: make(chan struct{})}, client).HandshakeContext(ctx)
			})
		}

		synctest.Wait()

		serverConn, clientConn := net.Pipe()
		config := client.Clone()
		config.InsecureSkipVerify = true // The clock of the bubble is before the certificate's time.

		p := handshake(t, h, serverConn, tls.Client(clientConn, config))
		p.requireLayer(t)

		serverConn.Close()
		clientConn.Close()
		cancel()
		handshakes.Wait()

		if stats := h.Stats(); stats.Full != 1 || stats.Failed != 6 {
			t.Errorf("statistics %+v, want one handshake and 6 failures", stats)
		}
	})
}

// writeOnly is the connection of a client that doesn't read.
type writeOnly struct {
	net.Conn

	closed chan struct{}
}

func (c *writeOnly) Read([]byte) (int, error) {
	<-c.closed
	return 0, net.ErrClosed
}

func (c *writeOnly) Close() error {
	close(c.closed)
	return c.Conn.Close()
}

// TestParallel tests that no more handshakes compute at once than allowed.
func TestParallel(t *testing.T) {
	const parallel, clients = 2, 8

	server, client := configs(t)
	original := server.GetCertificate

	var (
		mu            sync.Mutex
		computing, at int
	)

	server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		computing++
		at = max(at, computing)
		mu.Unlock()

		certificate, err := original(hello)

		mu.Lock()
		computing--
		mu.Unlock()

		return certificate, err
	}
	h := tlsrecord.NewHandshaker(server, parallel, nil)

	var connects sync.WaitGroup
	for range clients {
		connects.Go(func() { connect(t, h, client).requireLayer(t) })
	}
	connects.Wait()

	if at > parallel {
		t.Errorf("%d handshakes computed at once, want at most %d", at, parallel)
	}

	if stats := h.Stats(); stats.Full != clients {
		t.Errorf("statistics %+v, want %d handshakes", stats, clients)
	}
}

// FuzzHandshake performs handshakes with clients that send arbitrary bytes.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(3))
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, uint8(1))
	f.Add([]byte{22, 3, 1, 255, 255, 1, 0, 0, 0}, uint8(9))
	f.Add([]byte{22, 3, 1, 0, 0, 22, 3, 1, 0, 0}, uint8(7))

	server, _ := configs(f)

	f.Fuzz(func(t *testing.T, sent []byte, size uint8) {
		serverConn, client := net.Pipe()
		defer serverConn.Close()

		var calls sync.WaitGroup
		defer calls.Wait()

		calls.Go(func() {
			defer client.Close()

			for part := range slices.Chunk(sent, int(size)+1) {
				if _, err := client.Write(part); err != nil {
					return
				}
			}
		})

		// The alert.
		calls.Go(func() { io.Copy(io.Discard, client) })

		h := tlsrecord.NewHandshaker(server, 1, nil)
		if _, _, err := h.Handshake(t.Context(), serverConn); err == nil {
			t.Error("the handshake succeeded")
		}
		serverConn.Close()
	})
}
