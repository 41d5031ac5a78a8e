package listen_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/internal/listen"
	"github.com/peald/peald/internal/testbed"
)

// TestLateRequestGetsNoAnswer sends part of a request. An EventSource gives up
// when it gets an answer that isn't a stream, but reconnects when the connection
// closes.
func TestLateRequestGetsNoAnswer(t *testing.T) {
	certificate := testbed.NewCertificate(t)
	pair, err := tls.LoadX509KeyPair(certificate.CertFile, certificate.KeyFile)
	if err != nil {
		t.Fatal(err)
	}

	for _, encrypted := range []bool{false, true} {
		tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}

		var serverTLS *tls.Config
		dial := func() (net.Conn, error) { return net.Dial("tcp", tcp.Addr().String()) }
		if encrypted {
			serverTLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			dial = func() (net.Conn, error) {
				return tls.Dial("tcp", tcp.Addr().String(), certificate.Client("http/1.1"))
			}
		}

		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })
		server := listen.NewServer(listen.Slotted(tcp, 1), handler, serverTLS, slog.New(slog.DiscardHandler))
		server.SetHeaderTimeout(100 * time.Millisecond)
		served := make(chan error, 1)
		go func() { served <- server.Serve() }()

		for _, late := range []string{"GE", "GET /events?access_token=abc", "GET / HTTP/1.1\r\nHo"} {
			for _, before := range []string{"", "GET / HTTP/1.1\r\nHost: peald\r\n\r\n"} {
				// The system resets a connection whose bytes arrive after it was closed.
				answer, err := answerTo(t, dial, before, late)
				closed := err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
				if len(answer) > 0 || !closed {
					t.Errorf("TLS %t: after %q the answer is %q, %v; want a closed connection", encrypted, before+late, strings.TrimSpace(string(answer)), err)
				}
			}
		}

		if err := errors.Join(server.Shutdown(t.Context()), <-served); err != nil {
			t.Error(err)
		}
	}
}

// answerTo sends a request, if it isn't empty, and then part of another. It
// returns the answer to that part.
func answerTo(t *testing.T, dial func() (net.Conn, error), request, late string) ([]byte, error) {
	t.Helper()

	// On a busy machine, the server may close a connection before the complete
	// request, or the handshake, gets through.
	for range 200 {
		conn, err := dial()
		if err != nil {
			continue
		}
		defer func() { _ = conn.Close() }()

		if _, err = io.WriteString(conn, request+late); err != nil {
			continue
		}

		answers := bufio.NewReader(conn)
		if request != "" {
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, resp.Body)

			if resp.StatusCode != http.StatusOK {
				t.Fatalf("the complete request gets %s", resp.Status)
			}
		}

		return io.ReadAll(answers)
	}

	t.Fatal("no complete request gets through")

	return nil, nil
}
