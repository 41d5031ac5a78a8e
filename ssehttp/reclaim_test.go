package ssehttp_test

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

	"github.com/peald/peald/internal/broker"
)

// splitConn is a connection that keeps back the end of what is written to it.
type splitConn struct {
	net.Conn

	keep int // bytes of the next Write
	kept []byte
}

// Write implements [net.Conn].
func (c *splitConn) Write(p []byte) (int, error) {
	if c.keep == 0 {
		return c.Conn.Write(p)
	}
	c.kept = append(c.kept, p[len(p)-c.keep:]...)
	_, err := c.Conn.Write(p[:len(p)-c.keep])
	c.keep = 0
	return len(p), err
}

// TestReclaimedFromNetHTTP opens streams over TLS whose requests net/http reads. The
// engine must hold them, deliver every byte once, and notice close_notify.
func TestReclaimedFromNetHTTP(t *testing.T) {
	for name, requests := range map[string][]string{
		"HTTP/1.0":      {"GET /events HTTP/1.0\r\n\r\n"},
		"another first": {"OPTIONS /events HTTP/1.1\r\nHost: x\r\n\r\n", "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"},
		"pipelined":     {"GET /events HTTP/1.0\r\n\r\n" + strings.Repeat("ignored", 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, enginePaths()[1:2], func(t *testing.T, via path) { testReclaimed(t, via, requests) })
		})
	}
}

func testReclaimed(t *testing.T, via path, requests []string) {
	t.Helper()

	s := start(t, via, nil)
	raw, client := dialSplit(t, s)
	r := bufio.NewReader(client)
	for _, request := range requests[:len(requests)-1] {
		if _, err := io.WriteString(client, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}

	if _, err := io.WriteString(client, requests[len(requests)-1]); err != nil {
		t.Fatal(err)
	}
	raw.keep = 7 // of a record that the engine must complete
	if _, err := io.WriteString(client, "ignored"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	block(t, body)
	if engines := s.handler.Engines(); engines["epoll"] != 1 || engines["nethttp"] != 0 {
		t.Errorf("streams by engine: %v, want 1 of epoll", engines)
	}

	for i, data := range []string{"one", strings.Repeat("x", 100_000), "three"} {
		sent := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: data})
		if got, want := block(t, body), "id: "+sent.ID+"\nevent: broadcast\ndata: "+data+"\n\n"; got != want {
			t.Fatalf("got %.60q, want %.60q", got, want)
		}
		if i == 0 {
			if _, err := raw.Conn.Write(raw.kept); err != nil {
				t.Fatal(err)
			}
		}
	}

	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(body); len(rest) > 0 || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after close_notify, the stream got %.60q (%v), want its end", rest, err)
	}
	waitFor(t, "the stream to be closed", func() bool { return s.handler.Open() == 0 })
}

// TestCloseNotifyWithRequest sends close_notify right after a request, and leaves the
// TCP connection open. The stream must be closed all the same.
func TestCloseNotifyWithRequest(t *testing.T) {
	for _, request := range []string{"GET /events HTTP/1.0\r\n\r\n", "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"} {
		t.Run(strings.Fields(request)[2], func(t *testing.T) {
			onEach(t, enginePaths()[1:2], func(t *testing.T, via path) {
				t.Helper()

				s := start(t, via, nil)
				raw, client := dialSplit(t, s)
				// One write carries the whole request and the alert.
				raw.keep = len(request) + 22 // all of the record
				if _, err := io.WriteString(client, request); err != nil {
					t.Fatal(err)
				}
				raw.keep = 24
				if err := client.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				_ = raw.SetDeadline(time.Now().Add(time.Minute)) // CloseWrite has changed it
				if _, err := raw.Conn.Write(raw.kept); err != nil {
					t.Fatal(err)
				}
				waitFor(t, "the stream to be closed", func() bool { return s.broker.Stats().Total.Disconnected["hung_up"] == 1 })
				if _, err := io.Copy(io.Discard, client); err != nil {
					t.Errorf("the connection ended with %v, want close_notify", err)
				}
			})
		})
	}
}

// dialSplit connects to a server with TLS.
func dialSplit(t *testing.T, s *server) (*splitConn, *tls.Conn) {
	t.Helper()

	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	raw := &splitConn{Conn: conn}
	transport, _ := s.client.Transport.(*http.Transport)
	config := transport.TLSClientConfig.Clone()
	config.ServerName = "127.0.0.1"
	client := tls.Client(raw, config)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	return raw, client
}
