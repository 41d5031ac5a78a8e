package daemon_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			b.dialed.Add(1)
			return pausedConn{conn, b}, nil
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

// TestSlowConsumers stops reading a stream until its queue is full. With HTTP/2,
// either the stream's window is closed, and other streams go on, or the whole
// connection is blocked.
func TestSlowConsumers(t *testing.T) {
	for _, policy := range []string{daemon.SlowDisconnect, daemon.SlowDropOldest, daemon.SlowConflate} {
		change := func(cfg *daemon.Config) {
			cfg.Broker.SlowConsumer = policy
			cfg.Broker.QueueBytes = 256 << 10
			cfg.SSE.Heartbeat = time.Minute // doesn't take part in the test
		}
		t.Run(policy, func(t *testing.T) {
			onEachTransport(t, change, func(t *testing.T, d reachable) { testSlowConsumer(t, d, policy, false) })
			t.Run("window", func(t *testing.T) { testSlowConsumer(t, startVia(t, transports()[2], change), policy, true) })
		})
	}
}

func testSlowConsumer(t *testing.T, d reachable, policy string, window bool) {
	t.Helper()
	slow, fast := d.browser(t), d.browser(t)
	streams := 1
	if window {
		slow.limitWindow()
		fast = slow
	} else if d.http2 {
		streams = 3 // their windows of 4 MiB exceed the socket's buffers
	}
	var stuck []*bufio.Reader
	for range streams {
		stuck = append(stuck, stream(t, &slow.Client, d.url))
	}
	lines := stream(t, &fast.Client, d.url)
	resume := func() {}
	if !window {
		resume = slow.pause(t)
	}

	published := publishUntil(t, d, lines, func(closed, dropped int) bool {
		return closed == streams || policy != daemon.SlowDisconnect && dropped > 10*streams
	})
	if n := slow.dialed.Load(); d.http2 && n != 1 {
		t.Errorf("%d connections, want 1", n)
	}

	resume()
	for _, r := range stuck {
		got, resets := readNumbers(r)
		isComplete := len(got) > 0 && got[len(got)-1] == published
		switch {
		case policy == daemon.SlowDisconnect && (isComplete || resets > 0):
			t.Errorf("the closed stream got the events %v and %d resets", got, resets)
		case policy == daemon.SlowDropOldest && (!isComplete || resets == 0):
			t.Errorf("got the events %v and %d resets, want the last of %d and a reset", got, resets, published)
		case policy == daemon.SlowConflate && (!isComplete || resets > 0 || len(got) >= published):
			t.Errorf("got the events %v and %d resets, want some of %d with the last", got, resets, published)
		}
	}
}

// publishUntil publishes numbered events until slow consumers have lost as many
// streams and events as wanted, and then the event "end". It returns the last
// number. The stream must receive each event.
func publishUntil(t *testing.T, d reachable, lines *bufio.Reader, good func(closed, dropped int) bool) (last int) {
	t.Helper()
	const most, reason = 1000, "slow_consumer"
	rpc, _ := controlClient(t, d.GRPC)
	padding := strings.Repeat("x", 64<<10)
	publish := func(data string) {
		t.Helper()
		if _, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: data, ConflateKey: "number"}); err != nil {
			t.Fatal(err)
		}
		awaitLine(t, lines, "data: "+data)
	}
	for n := 1; n < most; n++ {
		publish(fmt.Sprint(n, " ", padding))
		stats, err := rpc.Stats(t.Context(), &pealv1.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if total := stats.GetTotal(); good(int(total.GetDisconnected()[reason]), int(total.GetDropped()[reason])) {
			publish("end")
			return n
		}
	}
	t.Fatalf("no stream is slow after %d events", most)
	return 0
}

// readNumbers reads numbered events up to the event "end", or the end of the
// stream. It returns the numbers, and counts resets.
func readNumbers(r io.Reader) (numbers []int, resets int) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && lines.Text() != "data: end" {
		var n int
		if lines.Text() == "event: peald.reset" {
			resets++
		} else if _, err := fmt.Sscanf(lines.Text(), "data: %d ", &n); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, resets
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
