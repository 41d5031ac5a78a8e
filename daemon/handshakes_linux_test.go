package daemon_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// clientHello returns the first record of a client's handshake.
func clientHello(t *testing.T) []byte {
	t.Helper()
	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := tls.Client(client, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake(); err == nil {
			t.Error("a handshake with nobody succeeds")
		}
	}()
	const size = 4 << 10 // exceeds a ClientHello, which is written at once
	hello := make([]byte, size)
	n, err := server.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	<-ended
	_ = client.Close()
	return hello[:n]
}

// handshakeUntil opens a connection and sends the beginning of a handshake. If
// answered is set, it waits for the daemon's answer.
func handshakeUntil(t *testing.T, addr string, beginning []byte, answered bool) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write(beginning); err != nil {
		t.Fatal(err)
	}
	if answered {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// TestUnfinishedHandshakesDoNotDelayShutdown shuts a daemon down while clients are
// at several points of their handshakes. It must close their connections, and must
// not wait for the time that a handshake may take.
func TestUnfinishedHandshakesDoNotDelayShutdown(t *testing.T) {
	before := goleak.IgnoreCurrent()
	d := startVia(t, transport{tls: true}, func(*daemon.Config) {})
	hello := clientHello(t)
	conns := []net.Conn{
		handshakeUntil(t, d.SSE, nil, false),
		handshakeUntil(t, d.SSE, hello[:3], false),
		handshakeUntil(t, d.SSE, hello[:len(hello)-1], false),
		handshakeUntil(t, d.SSE, hello, true),
		handshakeUntil(t, d.SSE, append(hello, 22, 3, 3, 0, 100), true), // with a part of the next record
	}

	began := time.Now()
	d.end()
	if err := d.awaitEnd(t); err != nil {
		t.Error(err)
	}
	// Handshakes may take 10 s. A loaded machine needs some of them.
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the daemon ended after %s", took)
	}
	for i, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d is still open", i)
		}
	}
	goleak.VerifyNone(t, append(testbed.LeftByNATS(), before)...)
}

// TestHandshakeFlood leaves many handshakes unfinished. Streams must go on,
// and new clients must get streams. The connections are counted once they close.
func TestHandshakeFlood(t *testing.T) {
	for _, via := range transports()[1:] {
		t.Run(via.name, func(t *testing.T) { testHandshakeFlood(t, startVia(t, via, func(*daemon.Config) {})) })
	}
}

func testHandshakeFlood(t *testing.T, d reachable) {
	t.Helper()
	const flood = 150
	open := stream(t, &d.browser(t).Client, d.url)
	hello := clientHello(t)
	var conns []net.Conn
	for range flood {
		conns = append(conns, handshakeUntil(t, d.SSE, hello, true))
	}

	later := stream(t, &d.browser(t).Client, d.url)
	rpc, _ := controlClient(t, d.GRPC)
	if _, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "during the flood"}); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, open, "data: during the flood")
	awaitLine(t, later, "data: during the flood")

	for _, conn := range conns {
		_ = conn.Close()
	}
	waitForFamilies(t, d.running, func(families map[string]*dto.MetricFamily) bool {
		handshakes := byLabel(families["peald_tls_handshakes_total"])
		return handshakes["failed"] == flood && handshakes["full"] == 2 && byLabel(families["peald_refused_total"])["no_request"] == flood
	})
}
