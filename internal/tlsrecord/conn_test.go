package tlsrecord_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/tlsrecord"
)

// newConn returns the server's Conn and the client after a handshake over TCP.
func newConn(tb testing.TB) (*tlsrecord.Conn, *tls.Conn) {
	tb.Helper()

	server, client := configs(tb)
	serverConn, clientConn := pipe(tb)

	return newConnOver(tb, server, serverConn, tls.Client(clientConn, client))
}

func newConnOver(tb testing.TB, config *tls.Config, conn net.Conn, client *tls.Conn) (*tlsrecord.Conn, *tls.Conn) {
	tb.Helper()

	h := tlsrecord.NewHandshaker(config, 1, nil)
	p := handshake(tb, h, conn, client).requireLayer(tb)

	c := tlsrecord.NewConn(p.conn, p.layer, p.tls.ConnectionState())
	c.Prepend(nil, p.received)
	tb.Cleanup(func() { c.Close() })

	return c, p.client
}

// TestConnTransfer transfers much data in both directions at the same time.
func TestConnTransfer(t *testing.T) {
	forEachSuite(t, func(t *testing.T) {
		server, client := newConn(t)
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)

		var transfers sync.WaitGroup
		defer transfers.Wait()

		for _, to := range []net.Conn{server, client} {
			transfers.Go(func() {
				if n, err := to.Write(data); err != nil || n != len(data) {
					t.Errorf("Write returned %d, %v; want %d", n, err, len(data))
				}
			})
		}

		for _, from := range []net.Conn{server, client} {
			transfers.Go(func() {
				got := make([]byte, len(data))
				if _, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, data) {
					t.Errorf("read other data than was written, or failed: %v", err)
				}
			})
		}
	})
}

// TestConnConcurrent writes lines from several goroutines while others read and close.
func TestConnConcurrent(t *testing.T) {
	const writers, lines = 4, 200

	server, client := newConn(t)

	var calls sync.WaitGroup
	defer calls.Wait()

	for range writers {
		calls.Go(func() {
			for range lines {
				if _, err := io.WriteString(server, "one line\n"); err != nil {
					t.Error(err)
				}
			}
		})
	}

	calls.Go(func() {
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("Read succeeded without data")
		}
	})

	got := make([]byte, writers*lines*len("one line\n"))
	if _, err := io.ReadFull(client, got); err != nil {
		t.Fatal(err)
	}

	if string(got) != strings.Repeat("one line\n", writers*lines) {
		t.Error("the lines are mixed")
	}

	for range 2 {
		calls.Go(func() { server.Close() })
	}
}

// TestConnPrepend reads what an owner before has decrypted, and what it hasn't.
func TestConnPrepend(t *testing.T) {
	server, client := configs(t)
	p := connect(t, tlsrecord.NewHandshaker(server, 1, nil), client).requireLayer(t)

	for _, text := range []string{"first ", "second ", "third"} {
		if _, err := io.WriteString(p.client, text); err != nil {
			t.Fatal(err)
		}
	}

	plain, err := p.open()
	if err != nil {
		t.Fatal(err)
	}

	c := tlsrecord.NewConn(p.conn, p.layer, tls.ConnectionState{})
	defer c.Close()

	c.Prepend(plain, p.received)

	got := make([]byte, len("first second third"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "first second third" {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestConnClose closes either side, and expects the other's Read to return EOF.
func TestConnClose(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		server, client := newConn(t)

		if err := server.Close(); err != nil {
			t.Fatal(err)
		}

		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the client's Read returned %v, want EOF", err)
		}

		if _, err := server.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write returned %v, want net.ErrClosed", err)
		}

		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read returned %v, want net.ErrClosed", err)
		}

		if err := server.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the second Close returned %v, want net.ErrClosed", err)
		}
	})

	t.Run("client", func(t *testing.T) {
		server, client := newConn(t)

		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}

		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("Read returned %v, want EOF", err)
		}

		// Only the client's direction is closed.
		if _, err := io.WriteString(server, "reply"); err != nil {
			t.Fatal(err)
		}

		if err := server.CloseWrite(); err != nil {
			t.Fatal(err)
		}

		if got, err := io.ReadAll(client); err != nil || string(got) != "reply" {
			t.Errorf("the client read %q, %v", got, err)
		}
	})

	t.Run("without close_notify", func(t *testing.T) {
		server, client := newConn(t)
		client.NetConn().Close()

		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("Read returned %v, want EOF", err)
		}
	})

	t.Run("inside a record", func(t *testing.T) {
		server, client := newConn(t)

		if _, err := client.NetConn().Write([]byte{23, 3, 3, 0, 100, 1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		client.NetConn().Close()

		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Read returned %v, want an unexpected EOF", err)
		}
	})
}

// TestConnCloseWhileBusy closes a connection whose Read and Write are blocked.
func TestConnCloseWhileBusy(t *testing.T) {
	server, _ := newConn(t)

	var calls sync.WaitGroup

	calls.Go(func() {
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("Read succeeded without data")
		}
	})

	filled := make(chan struct{}, 1)

	calls.Go(func() {
		for {
			if _, err := server.Write(make([]byte, 1<<20)); err != nil {
				return
			}

			select {
			case filled <- struct{}{}:
			default:
			}
		}
	})

	<-filled
	server.Close()
	calls.Wait()
}

// TestConnDeadlines tests that Read continues after a timeout, and Write doesn't.
func TestConnDeadlines(t *testing.T) {
	server, client := newConn(t)

	if err := server.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}

	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read returned %v, want a timeout", err)
	}

	if err := server.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}

	if _, err := io.WriteString(client, "later"); err != nil {
		t.Fatal(err)
	}

	got := make([]byte, 5)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "later" {
		t.Errorf("read %q, %v", got, err)
	}

	if err := server.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}

	if _, err := server.Write([]byte("too late")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write returned %v, want a timeout", err)
	}

	if err := server.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}

	if _, err := server.Write([]byte("more")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write returned %v, want the timeout again", err)
	}
}

// TestConnAlert sends a record that wasn't sealed under the client's key.
func TestConnAlert(t *testing.T) {
	server, client := newConn(t)

	if _, err := client.NetConn().Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...)); err != nil {
		t.Fatal(err)
	}

	_, err := server.Read(make([]byte, 1))
	wantAlert(t, err, tlsrecord.AlertBadRecordMAC)

	if _, err := server.Write([]byte("more")); err == nil {
		t.Error("Write succeeded after an alert")
	}

	if _, err := client.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("the client's Read returned %v, want the alert", err)
	}
}

// listener accepts connections from a channel.
type listener struct{ conns chan net.Conn }

func (l *listener) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}

	return conn, nil
}

func (l *listener) Close() error   { return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

// TestConnHTTP serves requests over a Conn with net/http.
func TestConnHTTP(t *testing.T) {
	conn, client := newConn(t)

	conns := make(chan net.Conn, 1)
	conns <- conn

	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.TLS.Version != tls.VersionTLS13 {
			t.Errorf("Request.TLS is %v, want the state", r.TLS)
		}
		io.Copy(w, r.Body)
	})}

	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(&listener{conns}) })

	transport := &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return client, nil },
	}

	for _, body := range []string{"short", strings.Repeat("long ", 1<<16)} {
		response, err := (&http.Client{Transport: transport}).Post("https://127.0.0.1/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}

		got, err := io.ReadAll(response.Body)
		response.Body.Close()

		if err != nil || string(got) != body {
			t.Errorf("the response has %d bytes, %v; want %d", len(got), err, len(body))
		}
	}

	transport.CloseIdleConnections()
	close(conns)
	serving.Wait()

	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
