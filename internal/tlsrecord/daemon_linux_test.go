package tlsrecord_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
	"github.com/peald/peald/internal/tlsrecord"
)

// clientKeys is the key log of a client.
type clientKeys struct{ client, server []byte }

// Write implements [io.Writer].
func (k *clientKeys) Write(line []byte) (int, error) {
	client, server, err := tlsrecord.ParseKeyLog(string(line))
	k.client, k.server = append(k.client, client...), append(k.server, server...)

	return len(line), err
}

// dialDaemon performs a handshake with a daemon and returns the client's side. Its
// layer may send what crypto/tls wouldn't.
func dialDaemon(t *testing.T, d *pealdtest.Daemon, certificate testbed.Certificate, protocol string) *peers {
	t.Helper()

	conn, err := net.Dial("tcp", d.SSE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))

	var keys clientKeys
	config := certificate.Client(protocol)
	config.ServerName, config.KeyLogWriter = "127.0.0.1", &keys

	client := tls.Client(conn, config)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}

	// The client has no cache for sessions, so the daemon sends no tickets.
	layer, err := tlsrecord.NewLayer(client.ConnectionState().CipherSuite, keys.server, keys.client)
	if err != nil {
		t.Fatal(err)
	}

	return &peers{conn: conn, layer: layer}
}

// floods returns functions that return wrong records, and the alerts that answer
// them. Each ends with the record that is too many.
func floods(t *testing.T) map[string]struct {
	records func(client *tlsrecord.Layer) []byte
	want    tlsrecord.Alert
} {
	t.Helper()

	const most = 16 // records in a row without data

	keyUpdates := func(client *tlsrecord.Layer) (records []byte) {
		for n := range most + 1 {
			records = append(records, sealInner(t, client, typeKeyUpdate, 0, 0, 1, byte(n%2), typeHandshake)...)
			if err := client.Update(); err != nil {
				t.Fatal(err)
			}
		}

		return records
	}
	emptyRecords := func(client *tlsrecord.Layer) (records []byte) {
		for range most + 1 {
			records = append(records, sealInner(t, client, typeData)...)
		}

		return records
	}
	longRecord := func(*tlsrecord.Layer) []byte {
		const length = tlsrecord.MaxPlaintext + 256 + 1

		return []byte{typeData, 3, 3, length >> 8, length & 0xff}
	}
	longPlaintext := func(client *tlsrecord.Layer) []byte {
		return sealInner(t, client, append(make([]byte, tlsrecord.MaxPlaintext+1), typeData)...)
	}

	return map[string]struct {
		records func(client *tlsrecord.Layer) []byte
		want    tlsrecord.Alert
	}{
		"key updates":    {keyUpdates, tlsrecord.AlertUnexpectedMessage},
		"empty records":  {emptyRecords, tlsrecord.AlertUnexpectedMessage},
		"long record":    {longRecord, tlsrecord.AlertRecordOverflow},
		"long plaintext": {longPlaintext, tlsrecord.AlertRecordOverflow},
	}
}

// TestDaemonClosesFloods sends a daemon wrong records, or too many useless ones:
// instead of a request, and during streams. It must answer with an alert, close
// the connection, count it, and go on with other streams.
func TestDaemonClosesFloods(t *testing.T) {
	certificate := testbed.NewCertificate(t)
	d := pealdtest.Start(t, pealdtest.OverTLS(certificate))
	other := openStream(t, d, certificate)

	request := "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
	requests := map[string]struct {
		protocol, sent string
		streams        int32
	}{
		"no request":       {"http/1.1", "", 0},
		"no HTTP2 request": {"h2", "", 0},
		"stream":           {"http/1.1", request, 1},
		"HTTP2 stream":     {"h2", http2Request(t), 1},
	}

	for name, flood := range floods(t) {
		for during, test := range requests {
			t.Run(name+"/"+during, func(t *testing.T) {
				client := dialDaemon(t, d, certificate, test.protocol)
				if _, err := client.conn.Write(client.layer.Seal(nil, [][]byte{[]byte(test.sent)})); err != nil {
					t.Fatal(err)
				}
				d.WaitForStreams(t, 1+test.streams)

				if _, err := client.conn.Write(flood.records(client.layer)); err != nil {
					t.Fatal(err)
				}

				var err error
				for err == nil {
					_, err = client.open()
				}
				if alert, ok := errors.AsType[*tlsrecord.PeerAlertError](err); !ok || alert.Alert != flood.want {
					t.Errorf("the connection ended with %v, want the alert %q", err, flood.want)
				}
				if n, err := io.Copy(io.Discard, client.conn); n > 0 || err != nil {
					t.Errorf("after the alert, the client received %d bytes and %v; want the end", n, err)
				}
				d.WaitForStreams(t, 1)
			})
		}
	}

	resp, err := http.Post(d.URL("/v1/broadcast"), "application/json", strings.NewReader(`{"data":"after the floods"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for line := ""; line != "data: after the floods\n"; {
		var err error
		if line, err = other.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	wantClosed(t, d, len(floods(t)))
}

// http2Request returns the frames that open a stream.
func http2Request(t *testing.T) string {
	t.Helper()

	var block, frames bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/events"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}

	frames.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&frames, nil)
	if err := errors.Join(
		f.WriteSettings(),
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}),
	); err != nil {
		t.Fatal(err)
	}

	return frames.String()
}

// openStream opens a stream over HTTP/2.
func openStream(t *testing.T, d *pealdtest.Daemon, certificate testbed.Certificate) *bufio.Reader {
	t.Helper()

	transport := &http.Transport{TLSClientConfig: certificate.Client(), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)

	web := &http.Client{Transport: transport, Timeout: time.Minute}
	resp, err := web.Get("https://" + d.SSE + "/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })

	return bufio.NewReader(resp.Body)
}

// wantClosed waits for the metrics after floods instead of a request and during a
// stream, n times over each of two protocols.
func wantClosed(t *testing.T, d *pealdtest.Daemon, n int) {
	t.Helper()

	var metrics []byte
	want := []string{
		fmt.Sprintf("\npeald_refused_total{reason=\"no_request\"} %d\n", 2*n),
		fmt.Sprintf("\npeald_disconnects_total{reason=\"hung_up\"} %d\n", 2*n),
	}
	if !testbed.Eventually(time.Minute, func() bool {
		resp, err := http.Get(d.URL("/metrics"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()

		if metrics, err = io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}

		return bytes.Contains(metrics, []byte(want[0])) && bytes.Contains(metrics, []byte(want[1]))
	}) {
		t.Errorf("the metrics lack %q:\n%s", want, metrics)
	}
}
