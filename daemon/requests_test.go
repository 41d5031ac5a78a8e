package daemon_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/testbed"
)

// TestManyRequests checks that a client that obeys Connection: close and GOAWAY
// can send any number of requests.
func TestManyRequests(t *testing.T) {
	id := newIdentity(t)
	d := start(t, func(cfg *daemon.Config) { cfg.SSE.TLS = daemon.TLS{CertFile: id.certFile, KeyFile: id.keyFile} })
	for _, protocol := range []string{"http/1.1", "h2"} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: id.pool, NextProtos: []string{protocol}}, ForceAttemptHTTP2: protocol == "h2"}
		defer transport.CloseIdleConnections()
		web := &http.Client{Transport: transport}
		for range 700 {
			if got := get(t, web, "https://"+d.SSE+"/nothing"); !strings.HasPrefix(got, "404 ") {
				t.Fatalf("%s: %s", protocol, got)
			}
		}
	}
	if metrics := get(t, client(t), "http://"+d.REST+"/metrics"); !strings.Contains(metrics, "\npeald_refused_total{reason=\"max_requests_per_connection\"} 0\n") {
		t.Error("a connection was cut off")
	}
}

// requestFields returns the fields of a GET request over HTTP/2.
func requestFields(path string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return block.Bytes()
}

// TestRapidReset opens and resets HTTP/2 streams, as in CVE-2023-44487, until the
// connection is cut off.
func TestRapidReset(t *testing.T) {
	var log testbed.Log

	d := startLogging(t, &log, func(*daemon.Config) {})
	conn, err := net.Dial("tcp", d.SSE)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.Copy(io.Discard, conn)
	io.WriteString(conn, http2.ClientPreface)
	f := http2.NewFramer(conn, nil)
	f.WriteSettings()
	block := requestFields("/events")

	sent := 0
	for id := uint32(1); err == nil; id += 2 {
		if err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}); err == nil {
			err = f.WriteRSTStream(id, http2.ErrCodeCancel)
			sent++
		}
		if sent > 1_000_000 {
			t.Fatal("the connection isn't cut after a million streams")
		}
	}

	rpc, _ := controlClient(t, d.GRPC)
	awaitStreams(t, rpc, 0)

	if found := log.With(`level=DEBUG msg="stream rejected"`, "cause=max_requests_per_connection", "address=127.0.0.1"); len(found) == 0 {
		t.Error("the log has no line about the cut connection")
	}
}

// TestHTTP2WithoutALPN sends the preface of HTTP/2 and a request for a stream over
// TLS without having negotiated HTTP/2, as clients must (RFC 9113 §3.2). The protocol
// is HTTP/1.1, so the preface is a request that fails, and no frames are processed.
func TestHTTP2WithoutALPN(t *testing.T) {
	onEachEngine(t, func(t *testing.T, engine func(*daemon.Config)) {
		d := startVia(t, transport{tls: true}, engine)
		var frames bytes.Buffer
		frames.WriteString(http2.ClientPreface)
		f := http2.NewFramer(&frames, nil)
		f.WriteSettings()
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: requestFields("/events"), EndStream: true, EndHeaders: true})

		for _, protocols := range [][]string{{"http/1.1"}, nil} {
			conn, err := tls.Dial("tcp", d.SSE, &tls.Config{RootCAs: d.id.pool, NextProtos: protocols})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write(frames.Bytes()); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("with %q: %v, want a response", protocols, err)
			}
			if resp.ProtoMajor != 1 || resp.StatusCode < http.StatusBadRequest {
				t.Errorf("with %q: %s %s, want an error over HTTP/1.1", protocols, resp.Proto, resp.Status)
			}
			_, err = io.Copy(io.Discard, resp.Body)
			if rest, restErr := io.ReadAll(r); len(rest) > 0 || err != nil || restErr != nil {
				t.Errorf("with %q: %q (%v, %v) follows the response, want close_notify", protocols, rest, err, restErr)
			}
		}
		rpc, _ := controlClient(t, d.GRPC)
		awaitStreams(t, rpc, 0)
	})
}

func TestConnectionsWithoutARequestAreCounted(t *testing.T) {
	d := start(t, nil)
	for _, sent := range []string{"not an HTTP request\r\n\r\n", "GET /events HTTP/1.1\r\nX: " + strings.Repeat("x", 99<<10) + "\r\n\r\n"} {
		if got := firstLine(t, d.SSE, sent); strings.HasPrefix(got, "HTTP/1.1 2") {
			t.Errorf("%.20q gets %s", sent, got)
		}
	}
	if got := firstLine(t, d.SSE, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"); got != "HTTP/1.1 200 OK" {
		t.Error(got)
	}
	web := client(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !strings.Contains(get(t, web, "http://"+d.REST+"/metrics"), "\npeald_refused_total{reason=\"no_request\"} 2\n"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the connections are not counted")
		}
	}
}
