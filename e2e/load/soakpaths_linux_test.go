package load_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// secure performs the handshakes of TLS and HTTP/2 if the visitor uses them, and
// reports whether they succeeded.
func (v *visitor) secure(ctx context.Context) bool {
	useHTTP2 := rand.IntN(2) == 0
	v.top = v.conn

	if v.crowd.tls != nil {
		protocol := "http/1.1"
		if useHTTP2 {
			protocol = "h2"
		}

		config := v.crowd.tls(protocol)
		config.ServerName = "127.0.0.1"

		if rand.IntN(8) == 0 {
			config.MaxVersion = tls.VersionTLS12
		}

		secure := tls.Client(v.conn, config)
		if err := secure.HandshakeContext(context.WithoutCancel(ctx)); err != nil {
			v.crowd.faultf("TLS handshake: %v", err)

			return false
		}

		v.top = secure
	}

	if !useHTTP2 {
		return true
	}

	//nolint:staticcheck // net/http can't use an open connection.
	transport, err := http2.ConfigureTransports(&http.Transport{
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10},
	})
	if err == nil {
		v.http2, err = transport.NewClientConn(v.top) //nolint:staticcheck // See above.
	}

	if err != nil {
		v.crowd.faultf("HTTP/2: %v", err)
	}

	return err == nil
}

// requestHTTP2 sends a request for a stream over HTTP/2.
func (v *visitor) requestHTTP2(token string) {
	request, err := http.NewRequest(http.MethodGet, "https://localhost/events", http.NoBody)
	if err != nil {
		v.crowd.faultf("%v", err)

		return
	}

	request.Header.Set("Accept", "text/event-stream")

	if strings.Contains(v.headers, "gzip") {
		request.Header.Set("Accept-Encoding", "gzip")
	}

	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}

	// RoundTrip returns when the response arrives, or the connection is closed.
	v.reply = make(chan func() (*http.Response, error), 1)

	go func() {
		response, err := v.http2.RoundTrip(request)
		v.reply <- func() (*http.Response, error) { return response, err }
	}()
}

// receive returns the response to the last request.
func (v *visitor) receive() (*http.Response, error) {
	if v.http2 == nil {
		return http.ReadResponse(bufio.NewReader(v.top), nil)
	}

	return (<-v.reply)()
}

// interrupt makes reads fail.
func (v *visitor) interrupt() {
	// An HTTP/2 connection reads all the time, so this ends it.
	_ = v.conn.SetReadDeadline(time.Now())
}
