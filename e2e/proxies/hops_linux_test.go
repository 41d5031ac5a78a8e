package proxies_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// hop is a way in which a proxy connects to a daemon, other than the one in its
// file in deploy/.
type hop struct {
	name, proxy string

	// replace has pairs of old and new text in the proxy's file.
	replace []string

	plain         bool   // the daemon has no TLS
	proxyProtocol bool   // the daemon has sse.proxy_protocol
	transport     string // which the daemon counts
	netHTTP       bool   // net/http holds the streams
	long          bool   // runs only if SOAK is set
}

func hops() []hop {
	const (
		nginxPass   = "proxy_pass http://peald;"
		nginxHTTP10 = "proxy_http_version 1.0;"
		haproxy     = "check inter 1s"
		caddyPolicy = "lb_policy round_robin"
		unverified  = "transport http {\ntls_insecure_skip_verify\n"
	)

	return []hop{
		{name: "nginx, TLS 1.2, HTTP/1.0", proxy: "nginx", transport: "tls", netHTTP: true, replace: []string{
			nginxPass, "proxy_pass https://peald; proxy_ssl_protocols TLSv1.2;",
		}},
		{name: "nginx, TLS 1.3, HTTP/1.0", proxy: "nginx", transport: "tls", replace: []string{
			nginxPass, "proxy_pass https://peald; proxy_ssl_protocols TLSv1.3;",
		}},
		{name: "nginx, TLS 1.3, HTTP/1.1", proxy: "nginx", transport: "tls", long: true, replace: []string{
			nginxPass, "proxy_pass https://peald; proxy_ssl_protocols TLSv1.3;",
			nginxHTTP10, "proxy_http_version 1.1;",
		}},
		{name: "HAProxy, TLS, HTTP/1.1", proxy: "HAProxy", transport: "tls", replace: []string{
			haproxy, "ssl verify none " + haproxy,
		}},
		{name: "HAProxy, TLS, HTTP/2", proxy: "HAProxy", transport: "http2", replace: []string{
			haproxy, "ssl verify none alpn h2 check-alpn http/1.1 " + haproxy,
		}},
		{name: "HAProxy, HTTP/2", proxy: "HAProxy", transport: "http2", plain: true, long: true, replace: []string{
			haproxy, "proto h2 " + haproxy,
		}},
		{name: "HAProxy, PROXY protocol, TLS, HTTP/1.1", proxy: "HAProxy", transport: "tls", proxyProtocol: true, netHTTP: true, long: true, replace: []string{
			haproxy, "send-proxy-v2 ssl verify none " + haproxy,
		}},
		{name: "HAProxy, PROXY protocol, TLS, HTTP/2", proxy: "HAProxy", transport: "http2", proxyProtocol: true, netHTTP: true, replace: []string{
			haproxy, "send-proxy-v2 ssl verify none alpn h2 check-alpn http/1.1 " + haproxy,
		}},
		{name: "Caddy, TLS, HTTP/1.1", proxy: "Caddy", transport: "tls", long: true, replace: []string{
			caddyPolicy, caddyPolicy + "\n" + unverified + "versions 1.1\n}",
		}},
		{name: "Caddy, TLS, HTTP/2", proxy: "Caddy", transport: "http2", long: true, replace: []string{
			caddyPolicy, caddyPolicy + "\n" + unverified + "}",
		}},
		{name: "Caddy, HTTP/2", proxy: "Caddy", transport: "http2", plain: true, replace: []string{
			caddyPolicy, caddyPolicy + "\ntransport http {\nversions h2c\n}",
		}},
	}
}

// TestHops runs proxies that connect to the daemon with TLS, with HTTP/2, or both. By
// default, it omits hops whose protocols other hops have, from another proxy; SOAK runs
// all.
func TestHops(t *testing.T) {
	t.Parallel()

	var all sync.WaitGroup
	for _, h := range hops() {
		if h.long && os.Getenv("SOAK") == "" {
			continue
		}

		run(t, &all, h.name, h.test)
	}
	all.Wait()
}

func (h hop) test(t *testing.T) {
	t.Helper()

	host := loopback()
	certificate := testbed.NewCertificate(t, net.ParseIP(host))
	d := startDaemon(t, host+":18080", func(cfg *daemon.Config) {
		cfg.SSE.ProxyProtocol = h.proxyProtocol
		if !h.plain {
			cfg.SSE.TLS = daemon.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
		}
	})
	f := h.kind(t).start(t, setup{origin: origin, backends: []string{host + ":18080"}})

	// The clients have different addresses, and the daemon allows one stream for
	// each.
	first, second := f.open(t, http2), f.open(t, http1)
	d.WaitForStreams(t, 2)
	engine := daemon.EngineEpoll
	if h.netHTTP {
		engine = daemon.EngineNetHTTP
	}
	for _, count := range []string{
		fmt.Sprintf("\npeald_connections_by_transport{transport=%q} 2\n", h.transport),
		fmt.Sprintf("\npeald_connections_by_engine{engine=%q} 2\n", engine),
	} {
		if !strings.Contains(metrics(t, d), count) {
			t.Errorf("the metrics don't contain %q", count)
		}
	}
	for n := range 3 {
		broadcast(t, d, fmt.Sprint(n))
		first.waitFor(t, fmt.Sprint("data: ", n))
		second.waitFor(t, fmt.Sprint("data: ", n))
	}

	_ = first.Body.Close()
	d.WaitForStreams(t, 1)

	// A large event exceeds all windows, and what gzip makes of it does too.
	random := make([]byte, 3<<18)
	_, _ = rand.Read(random)
	large := base64.StdEncoding.EncodeToString(random)
	broadcast(t, d, large)
	second.waitFor(t, "data: "+large)

	compressed := f.get(t, f.transport(t, http2, ""), "/events", http.Header{"Accept-Encoding": {"gzip"}})
	if coding := compressed.Header.Get("Content-Encoding"); coding != "gzip" {
		t.Errorf("the stream has the coding %q, want gzip", coding)
	}

	d.Stop(t)
	if _, err := io.Copy(io.Discard, second.lines); err != nil {
		t.Errorf("the stream didn't end cleanly: %v", err)
	}
}

// kind returns the hop's proxy, with the changed file.
func (h hop) kind(t *testing.T) kind {
	t.Helper()

	for _, k := range kinds() {
		if k.name != h.proxy {
			continue
		}

		unchanged := k.command
		k.command = func(t *testing.T, s setup, conf string) command {
			t.Helper()

			c := unchanged(t, s, conf)
			for i := 0; i < len(h.replace); i += 2 {
				c.conf = replaced(t, c.conf, h.replace[i], h.replace[i+1])
			}

			return c
		}

		return k
	}

	t.Fatalf("unknown proxy %s", h.proxy)

	return kind{}
}

// metrics returns the daemon's metrics.
func metrics(t *testing.T, d *pealdtest.Daemon) string {
	t.Helper()

	resp, err := http.Get(d.URL("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}
