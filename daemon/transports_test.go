package daemon_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	dto "github.com/prometheus/client_model/go"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// transport is a way from a browser to a daemon.
type transport struct {
	name       string
	tls, http2 bool
}

// transports returns those that a browser may use.
func transports() []transport {
	return []transport{
		{name: "plain"},
		{name: "TLS", tls: true},
		{name: "HTTP2", tls: true, http2: true},
	}
}

// onEachTransport runs a test over each transport, with a daemon that has a
// configuration with change.
func onEachTransport(t *testing.T, change func(*daemon.Config), test func(t *testing.T, d reachable)) {
	t.Helper()
	for _, via := range transports() {
		t.Run(via.name, func(t *testing.T) { test(t, startVia(t, via, change)) })
	}
}

// reachable is a daemon that is reached over a transport.
type reachable struct {
	running
	transport

	id  identity
	url string // of the streams
}

// startVia starts a daemon that is reached over a transport.
func startVia(t *testing.T, via transport, change func(*daemon.Config)) reachable {
	t.Helper()
	d := reachable{transport: via, id: newIdentity(t)}
	d.running = start(t, func(cfg *daemon.Config) {
		if via.tls {
			cfg.SSE.TLS = daemon.TLS{CertFile: d.id.certFile, KeyFile: d.id.keyFile}
		}
		change(cfg)
	})
	d.url = "http://" + d.SSE + "/events"
	if via.tls {
		d.url = "https://" + d.SSE + "/events"
	}
	return d
}

// browser is a client with connections of its own, whose reading can be paused.
type browser struct {
	http.Client

	dialer  net.Dialer
	dialed  atomic.Int32
	reading sync.Mutex
}

// pausedConn is a connection of a browser.
type pausedConn struct {
	net.Conn

	browser *browser
}

// Read implements [net.Conn].
func (c pausedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.browser.reading.Lock()
	defer c.browser.reading.Unlock()
	return n, err
}

// browser returns a client that doesn't accept compressed streams.
func (d reachable) browser(t *testing.T) *browser {
	t.Helper()
	b := &browser{Client: http.Client{Timeout: patience}}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: d.id.pool}, DisableCompression: true, Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			b.dialed.Add(1)
			conn, err := b.dialer.DialContext(ctx, network, addr)
			return pausedConn{conn, b}, err
		},
	}
	transport.Protocols.SetHTTP1(!d.http2)
	transport.Protocols.SetHTTP2(d.http2)
	b.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	return b
}

// limitWindow makes the browser buffer at most 64 KiB of each stream over HTTP/2.
func (b *browser) limitWindow() {
	transport, _ := b.Transport.(*http.Transport)
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
}

// pause makes the browser stop reading until the returned function is called.
func (b *browser) pause(t *testing.T) (resume func()) {
	t.Helper()
	b.reading.Lock()
	resume = sync.OnceFunc(b.reading.Unlock)
	t.Cleanup(resume)
	return resume
}

// TestExpiredTokens checks that a stream ends gracefully when its token has
// expired, while another stream of the same client goes on.
func TestExpiredTokens(t *testing.T) {
	change := func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = secret }
	onEachTransport(t, change, func(t *testing.T, d reachable) {
		t.Parallel()
		web := d.browser(t)
		other := stream(t, &web.Client, d.url)

		// The daemon accepts a token for 5 s after its expiry.
		const leeway, age = 5 * time.Second, 3 * time.Second
		var expires time.Time
		var resp *http.Response
		for resp == nil || resp.StatusCode == http.StatusUnauthorized { // the machine is slow
			expires = time.Now().Add(-age).Truncate(time.Second)
			resp = open(t, web, d.url+"?access_token="+sign(t, expires))
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
		body, err := io.ReadAll(resp.Body)
		if early := time.Until(expires.Add(leeway)); err != nil || early > 0 {
			t.Errorf("the stream ended %s before the leeway with %v after %q, want its graceful end", early, err, body)
		}
		waitForFamilies(t, d.running, func(families map[string]*dto.MetricFamily) bool {
			return byLabel(families["peald_disconnects_total"])["expired"] == 1
		})
		if again := open(t, web, resp.Request.URL.String()); again.StatusCode != http.StatusUnauthorized {
			t.Errorf("the token gets %s now, want 401", again.Status)
		}

		rpc, _ := controlClient(t, d.GRPC)
		if _, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "after the other stream"}); err != nil {
			t.Fatal(err)
		}
		awaitLine(t, other, "data: after the other stream")
		if n := web.dialed.Load(); d.http2 && n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// sign returns alice's token.
func sign(t *testing.T, expires time.Time) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "exp": expires.Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// open sends a request whose response may be a stream.
func open(t *testing.T, web *browser, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}
