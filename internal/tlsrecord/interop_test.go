package tlsrecord_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/testbed"
	"github.com/peald/peald/internal/tlsrecord"
)

// programTimeout bounds what a program does.
const programTimeout = time.Minute

// serve calls handle with a Conn for each connection until the test ends. It returns
// the address and the path of the certificate.
func serve(t *testing.T, handle func(*tlsrecord.Conn)) (address, certFile string) {
	t.Helper()

	files := testbed.NewCertificate(t)

	certificate, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		t.Fatal(err)
	}

	h := tlsrecord.NewHandshaker(&tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{certificate},
	}, 2, nil)

	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	var serving sync.WaitGroup

	t.Cleanup(func() {
		socket.Close()
		serving.Wait()
	})

	serving.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}

			serving.Go(func() {
				defer conn.Close()

				ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
				defer cancel()

				tc, layer, err := h.Handshake(ctx, conn)
				if err != nil || layer == nil {
					t.Errorf("layer %v, %v", layer, err)
					return
				}

				c := tlsrecord.NewConn(conn, layer, tc.ConnectionState())
				defer c.Close()

				handle(c)
			})
		}
	})

	return socket.Addr().String(), files.CertFile
}

// client is a running program.
type client struct {
	stdin io.Writer
	lines chan string
	seen  []string
}

// start starts a program, which is killed when the test ends.
func start(t *testing.T, name string, args ...string) *client {
	t.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), programTimeout)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = t.Output()

	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	c := &client{stdin: stdin, lines: make(chan string, 10000)}

	var reading sync.WaitGroup

	reading.Go(func() {
		defer close(c.lines)

		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			c.lines <- scanner.Text()
		}
	})

	t.Cleanup(func() {
		cancel()
		reading.Wait()
		cmd.Wait()
	})

	return c
}

// send writes a line to the program.
func (c *client) send(t *testing.T, line string) {
	t.Helper()

	if _, err := io.WriteString(c.stdin, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

// want waits for output lines that contain these strings, in this order.
func (c *client) want(t *testing.T, parts ...string) {
	t.Helper()

	for _, part := range parts {
		for found := false; !found; {
			line, ok := <-c.lines
			if !ok {
				t.Fatalf("the output lacks %q:\n%s", part, strings.Join(c.seen, "\n"))
			}

			c.seen = append(c.seen, line)
			found = strings.Contains(line, part)
		}
	}
}

// TestOpenSSL resumes sessions and updates keys with OpenSSL's s_client.
func TestOpenSSL(t *testing.T) {
	openssl := testbed.Program(t, "openssl")
	address, certFile := serve(t, func(c *tlsrecord.Conn) { io.Copy(c, c) })

	for _, suite := range allSuites() {
		t.Run(tls.CipherSuiteName(suite), func(t *testing.T) {
			session := filepath.Join(t.TempDir(), "session")
			args := []string{
				"s_client", "-connect", address, "-CAfile", certFile, "-verify_return_error",
				"-ciphersuites", tls.CipherSuiteName(suite), "-msg",
			}

			c := start(t, openssl, append(args, "-sess_out", session)...)
			c.want(t, "New, TLSv1.3, Cipher is "+tls.CipherSuiteName(suite), "NewSessionTicket")
			useOpenSSL(t, c)

			if _, err := os.Stat(session); err != nil {
				t.Fatal(err)
			}

			c = start(t, openssl, append(args, "-sess_in", session)...)
			c.want(t, "Reused, TLSv1.3, Cipher is "+tls.CipherSuiteName(suite))
			useOpenSSL(t, c)
		})
	}
}

// useOpenSSL exchanges lines and updates keys, with and without a request to update
// the server's in return. Then it closes the connection.
func useOpenSSL(t *testing.T, c *client) {
	t.Helper()

	const sent, received = ">>> TLS 1.3, Handshake [length 0005], KeyUpdate", "<<< TLS 1.3, Handshake [length 0005], KeyUpdate"

	c.send(t, "hello")
	c.want(t, "hello")

	for range 3 {
		c.send(t, "k")
		c.want(t, sent)
		c.send(t, "after an update")
		c.want(t, "after an update")

		c.send(t, "K")
		c.want(t, sent)
		c.send(t, "after two updates")
		c.want(t, received, "after two updates")
	}

	c.send(t, "Q")

	for line := range c.lines {
		c.seen = append(c.seen, line)
	}

	if output := strings.Join(c.seen, "\n"); !strings.Contains(output, "close_notify") || strings.Count(output, received) != 3 {
		t.Errorf("the output lacks a close_notify, or one of the server's three updates:\n%s", output)
	}
}

// TestCurl sends and receives bodies of several records with curl.
func TestCurl(t *testing.T) {
	curl := testbed.Program(t, "curl")

	address, certFile := serve(t, func(c *tlsrecord.Conn) {
		conns := make(chan net.Conn, 1)
		conns <- c

		ended := make(chan struct{})
		server := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }),
			ConnState: func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					close(ended)
				}
			},
		}

		var serving sync.WaitGroup

		serving.Go(func() { server.Serve(&listener{conns}) })
		<-ended
		close(conns)
		serving.Wait()
	})

	body := strings.Repeat("0123456789", 100_000)

	bodyFile := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(bodyFile, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, suite := range allSuites() {
		t.Run(tls.CipherSuiteName(suite), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), programTimeout)
			defer cancel()

			url := "https://" + address + "/"
			cmd := exec.CommandContext(ctx, curl, "--silent", "--show-error", "--cacert", certFile,
				"--tls13-ciphers", tls.CipherSuiteName(suite), "--data-binary", "@"+bodyFile, url, url)
			cmd.Stderr = t.Output()

			got, err := cmd.Output()
			if err != nil || string(got) != body+body {
				t.Errorf("%d bytes, %v; want %d", len(got), err, 2*len(body))
			}
		})
	}
}
