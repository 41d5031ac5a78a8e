package http2conn_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

// newHTTPClient returns net/http's client with HTTP/2 over one connection.
func newHTTPClient(t *testing.T) *http.Client {
	t.Helper()

	transport := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: 1 << 40}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)

	return &http.Client{Transport: transport}
}

// TestClients sends requests of Go's clients at once.
func TestClients(t *testing.T) {
	t.Run("net/http", func(t *testing.T) { testClient(t, newHTTPClient(t)) })
	t.Run("x/net/http2", func(t *testing.T) {
		//nolint:staticcheck // Deprecated, but some clients use it.
		transport := &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}
		t.Cleanup(transport.CloseIdleConnections) //nolint:staticcheck // as above
		testClient(t, &http.Client{Transport: transport})
	})
}

func testClient(t *testing.T, client *http.Client) {
	t.Helper()

	url := "http://" + serve(t, http2conn.Config{}) + "/"

	var requests sync.WaitGroup
	for _, size := range []int{0, 1, 100, 1 << 14, 1<<16 - 1, 1 << 16, 1 << 20} {
		for range 5 {
			requests.Go(func() {
				resp, err := client.Get(fmt.Sprint(url, size))
				check(t, resp, err, pattern(size))
			})
			requests.Go(func() {
				resp, err := client.Post(url, "text/plain", bytes.NewReader(pattern(size)))
				check(t, resp, err, pattern(size))
			})
			requests.Go(func() { // without a length
				resp, err := client.Post(url, "text/plain", io.MultiReader(bytes.NewReader(pattern(size))))
				check(t, resp, err, pattern(size))
			})
		}
	}
	requests.Wait()

	resp, err := client.Head(url + "100")
	check(t, resp, err, nil)
}

func check(t *testing.T, resp *http.Response, err error, want []byte) {
	t.Helper()

	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(body, want) || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Errorf("%s over %s, %d bytes, %v; want %d bytes", resp.Status, resp.Proto, len(body), err, len(want))
	}
	if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
		t.Error(err)
	}
}

// TestClientWithTrailers sends trailers, and a body after status 100.
func TestClientWithTrailers(t *testing.T) {
	client := newHTTPClient(t)
	continued := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { continued = true }})

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+serve(t, http2conn.Config{})+"/", io.MultiReader(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Trailer": {"x"}}
	req.Header.Set("Expect", "100-continue")
	resp, err := client.Do(req)
	check(t, resp, err, []byte("body"))
	if !continued {
		t.Error("the client didn't get status 100")
	}
}

// TestClientCancels cancels requests while their responses are being sent.
func TestClientCancels(t *testing.T) {
	url := "http://" + serve(t, http2conn.Config{}) + "/"
	client := newHTTPClient(t)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"10000000", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(resp.Body, make([]byte, 1000))
		cancel()
		resp.Body.Close()
	}
	resp, err := client.Get(url + "100000")
	check(t, resp, err, pattern(100000))
}

// TestClientReconnects sends more requests than a connection may have.
func TestClientReconnects(t *testing.T) {
	url := "http://" + serve(t, http2conn.Config{RequestBurst: 100}) + "/1"
	client := newHTTPClient(t)
	var dialed int
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	for range 500 {
		resp, err := client.Get(url)
		check(t, resp, err, []byte("0"))
	}
	if dialed < 2 || dialed > 12 {
		t.Errorf("the client opened %d connections", dialed)
	}
}

// TestClientWithLargeHeader gets status 431.
func TestClientWithLargeHeader(t *testing.T) {
	client := newHTTPClient(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+serve(t, http2conn.Config{})+"/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The client respects the limit that the server announces, so only its own
	// fields exceed it.
	for i := range 8 {
		req.Header.Add(fmt.Sprint("X-", i), strings.Repeat("x", 5000))
	}
	resp, err := client.Do(req)
	if err != nil {
		if !strings.Contains(err.Error(), "header list") {
			t.Error(err)
		}
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", resp.Status)
	}
}

var errTest = errors.New("the connection was lost")
