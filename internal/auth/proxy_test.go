package auth_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/auth"
)

// webProxy is a proxy that counts requests and replies to them itself.
type webProxy struct {
	*httptest.Server

	requests atomic.Int64
}

func newWebProxy(tb testing.TB, response string) *webProxy {
	tb.Helper()
	p := &webProxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.requests.Add(1)
		io.WriteString(w, response)
	}))
	tb.Cleanup(p.Close)
	return p
}

func parseProxy(tb testing.TB, text string) auth.Proxy {
	tb.Helper()
	proxy, err := auth.ParseProxy(text)
	if err != nil {
		tb.Fatal(err)
	}
	return proxy
}

// elsewhere returns the URL of a local server, with a non-loopback address,
// because Go doesn't use proxies for loopback addresses.
func elsewhere(tb testing.TB, server *httptest.Server) string {
	tb.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		tb.Fatal(err)
	}
	return "http://0.0.0.0:" + u.Port() + "/"
}

func TestProxy(t *testing.T) {
	pair := newEd25519(t)
	set := jwks(t, jwk(t, pair, "1", nil))
	token := sign(t, jwt.SigningMethodEdDSA, pair.private, named("1"), aliceClaims)
	application, keyServer := newWebProxy(t, `{"user_id":"direct"}`), newWebProxy(t, string(set))

	for name, test := range map[string]struct {
		setting func(proxy string) string
		proxied bool
	}{
		"empty":       {func(string) string { return "" }, false},
		"a URL":       {func(proxy string) string { return proxy }, true},
		"environment": {func(string) string { return "environment" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			callbacks, keys := newWebProxy(t, `{"user_id":"proxied"}`), newWebProxy(t, string(set))

			// The variables are always set, but only one of the settings uses them.
			t.Setenv("NO_PROXY", "")
			t.Setenv("HTTP_PROXY", callbacks.URL)
			c, err := auth.NewCallback(auth.CallbackConfig{
				URL: elsewhere(t, application.Server), Timeout: 30 * time.Second, Concurrency: 1, Proxy: parseProxy(t, test.setting(callbacks.URL)),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			want := map[bool]string{true: "proxied", false: "direct"}[test.proxied]
			if id, err := c.Authorize(browser(t, "s", "")); err != nil || id.User != want {
				t.Errorf("Authorize = %+v, %v; want %s", id, err, want)
			}

			t.Setenv("HTTP_PROXY", keys.URL)
			tokens := tokensOf(t, auth.Config{JWKSURL: elsewhere(t, keyServer.Server), Proxy: parseProxy(t, test.setting(keys.URL))})
			if id, err := tokens.Verify(token); err != nil || id.User != "alice" {
				t.Errorf("Verify = %+v, %v", id, err)
			}
			if n := keys.requests.Load(); (n > 0) != test.proxied {
				t.Errorf("the proxy received %d requests for keys", n)
			}
		})
	}
}

func TestParseProxy(t *testing.T) {
	for _, text := range []string{"proxy:3128", "proxy", "ftp://proxy", "http://", "http://:3128", "http://proxy/path", "http://proxy?x", "Environment", "http://user:pa ss@proxy", "://"} {
		if _, err := auth.ParseProxy(text); err == nil || strings.Contains(err.Error(), "pa ss") {
			t.Errorf("%q: %v", text, err)
		}
	}

	for _, text := range []string{"", "environment", "http://proxy:3128", "http://user:pass@proxy/", "https://proxy", "socks5://[::1]:1080", "socks5h://proxy:1080"} {
		if _, err := auth.ParseProxy(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestUnreachableProxy checks that a proxy's password isn't logged.
func TestUnreachableProxy(t *testing.T) {
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	log, logged := logger()
	c := newCallback(t, func(cfg *auth.CallbackConfig) {
		cfg.Logger = log
		cfg.Proxy = parseProxy(t, strings.Replace(down.URL, "http://", "http://user:hunter2@", 1))
	}, respond(`{"user_id":"alice"}`))
	if id, err := c.Authorize(browser(t, "s", "")); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("Authorize = %+v, %v", id, err)
	}
	if len(logged.With("level=WARN", "auth.callback_url")) != 1 || strings.Contains(logged.String(), "hunter2") {
		t.Errorf("logged:\n%s", logged)
	}
}
