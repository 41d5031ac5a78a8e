package proxies_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
)

// version is a version of HTTP.
type version int

const (
	http1 version = 1
	http2 version = 2
)

// newest returns the newest HTTP version that the proxy supports.
func (f *front) newest() version {
	if f.http2 {
		return http2
	}

	return http1
}

// url returns the proxy's URL for a path and query.
func (f *front) url(path string) string {
	if f.plain {
		return "http://" + f.addr + path
	}

	return "https://" + f.addr + path
}

// response is a response through the proxy.
type response struct {
	*http.Response

	lines *bufio.Reader
}

// transport returns a transport for a client with the source address from. If from
// is empty, it chooses an unused address.
func (f *front) transport(t *testing.T, v version, from string) *http.Transport {
	t.Helper()

	if from == "" {
		from = fmt.Sprintf("127.0.1.%d", f.clients.Add(1))
	}

	config := &tls.Config{NextProtos: []string{"http/1.1"}}
	if !f.plain {
		config = f.certificate.Client("http/1.1")
	}

	if v == http2 {
		config.NextProtos = []string{"h2"}
	}

	transport := &http.Transport{
		TLSClientConfig:    config,
		ForceAttemptHTTP2:  v == http2,
		DisableCompression: true,
		DialContext:        (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
	}
	t.Cleanup(transport.CloseIdleConnections)

	return transport
}

// try requests a stream and returns the response.
func (f *front) try(t *testing.T, transport *http.Transport, path string, header http.Header) (response, error) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url(path), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Accept", "text/event-stream")
	maps.Copy(req.Header, header)

	resp, err := transport.RoundTrip(req)
	if err != nil {
		return response{}, err
	}

	t.Cleanup(func() { _ = resp.Body.Close() })

	return response{resp, bufio.NewReader(resp.Body)}, nil
}

// get requests a stream like try, but any error ends the test.
func (f *front) get(t *testing.T, transport *http.Transport, path string, header http.Header) response {
	t.Helper()

	resp, err := f.try(t, transport, path, header)
	if err != nil {
		t.Fatalf("%s through %s: %v", path, f.name, err)
	}

	return resp
}

// open opens a stream for a new client. It retries until the proxy has detected a
// reachable daemon.
func (f *front) open(t *testing.T, v version) response {
	t.Helper()

	var stream response

	transport := f.transport(t, v, "")
	opened := func() bool {
		var err error

		stream, err = f.try(t, transport, "/events", nil)
		if err != nil {
			return false
		}

		// If the client sent no ID, only a daemon's first block has one.
		if stream.StatusCode == http.StatusOK {
			if _, err := stream.nextMark(); err == nil {
				return true
			}
		}

		_ = stream.Body.Close()

		return false
	}

	if !eventually(opened) {
		t.Fatalf("can't open a stream through %s", f.name)
	}

	return stream
}

// waitFor reads until it has read the line want.
func (r response) waitFor(t *testing.T, want string) {
	t.Helper()

	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream was closed with %v before %q", err, want)
		}

		if line == want+"\n" {
			return
		}
	}
}

// nextMark reads until the next position mark and returns its line.
func (r response) nextMark() (string, error) {
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "id: ") {
			return line, err
		}
	}
}
