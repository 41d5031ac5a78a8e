package daemon_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
)

// TestALateRequestGetsNoAnswer sends a part of a request: an answer would be
// final for an EventSource, and a connection that ends is not.
func TestALateRequestGetsNoAnswer(t *testing.T) {
	const whole = "GET / HTTP/1.1\r\nHost: peald\r\n\r\n"
	certificate := pealdtest.NewCertificate(t)
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
		end := daemon.Serve(daemon.Slotted(tcp, 1), handler, serverTLS, 100*time.Millisecond)
		for _, late := range []string{"GE", "GET /events?access_token=abc", "GET / HTTP/1.1\r\nHo"} {
			for _, before := range []string{"", whole} {
				conn, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, before+late); err != nil {
					t.Fatal(err)
				}
				answers := bufio.NewReader(conn)
				if before != "" {
					resp, err := http.ReadResponse(answers, nil)
					if err != nil || resp.StatusCode != http.StatusOK {
						t.Fatalf("the request before got %v, %v", resp, err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
				}
				answer, err := io.ReadAll(answers)
				if len(answer) > 0 || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("TLS %t: after %q the answer is %q, %v; want the end of the connection", encrypted, before+late, strings.TrimSpace(string(answer)), err)
				}
				_ = conn.Close()
			}
		}
		if err := end(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
