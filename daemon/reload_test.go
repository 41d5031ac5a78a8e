package daemon_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/jsclient"
	"github.com/peald/peald/internal/testbed"
)

// reloadable is a daemon whose settings a test can change.
type reloadable struct {
	running

	given chan daemon.Reload
	cfg   daemon.Config
	log   *testbed.Log
}

func startReloadable(t *testing.T, opts daemon.Options, change func(*daemon.Config)) *reloadable {
	t.Helper()
	r := &reloadable{given: make(chan daemon.Reload), cfg: onFreePorts(), log: &testbed.Log{}}
	change(&r.cfg)
	opts.Reload = r.given
	r.running = startOn(t, opts, r.cfg, slog.New(slog.NewTextHandler(r.log, nil)))
	return r
}

// reload reloads the initial settings with a change, and returns what the daemon
// logs until it is done.
func (r *reloadable) reload(t *testing.T, change func(*daemon.Config)) string {
	t.Helper()
	next := r.cfg
	change(&next)
	r.log.Take()
	r.give(t, daemon.Reload{Config: next})
	var logged strings.Builder
	for late := time.After(patience); ; {
		logged.WriteString(r.log.Take())
		if text := logged.String(); strings.Contains(text, "reloaded") {
			return text
		}
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			t.Fatalf("the log is %q", logged.String())
		}
	}
}

// give passes settings to the daemon.
func (r *reloadable) give(t *testing.T, next daemon.Reload) {
	t.Helper()
	select {
	case r.given <- next:
	case <-time.After(patience):
		t.Fatal("the daemon doesn't read the settings")
	}
}

// TestReloadOfCompression checks the default of sse.compression, and that new
// streams follow a change.
func TestReloadOfCompression(t *testing.T) {
	r := startReloadable(t, daemon.Options{}, func(*daemon.Config) {})
	coding := func() string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+r.SSE+"/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.Header.Get("Content-Encoding")
	}

	if got := coding(); got != "gzip" {
		t.Errorf("by default the content coding is %q, want gzip", got)
	}
	if logged := r.reload(t, func(cfg *daemon.Config) { cfg.SSE.Compression = daemon.CompressionOff }); !strings.Contains(logged, "changed=sse.compression") {
		t.Errorf("the log is %q", logged)
	}
	if got := coding(); got != "" {
		t.Errorf("without compression the content coding is %q", got)
	}
}

// TestReloadOfClient checks that the JavaScript client is served by default, and can be
// switched off.
func TestReloadOfClient(t *testing.T) {
	r := startReloadable(t, daemon.Options{}, func(*daemon.Config) {})
	url := "http://" + r.SSE + "/peald.js"
	if got := get(t, client(t), url); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, string(jsclient.Module())) {
		t.Errorf("by default the client is %.100q", got)
	}
	if logged := r.reload(t, func(cfg *daemon.Config) { cfg.SSE.Client = false }); !strings.Contains(logged, "changed=sse.client") {
		t.Errorf("the log is %q", logged)
	}
	if got := get(t, client(t), url); !strings.HasPrefix(got, "404 ") {
		t.Errorf("without sse.client it is %.100q", got)
	}
}

// TestReloadWithoutTokensOnAnExposedAddress checks that settings that need a
// restart are validated with those that don't. By themselves, the new settings
// are valid.
func TestReloadWithoutTokensOnAnExposedAddress(t *testing.T) {
	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) {
		cfg.REST.Addr = "0.0.0.0:0"
		cfg.Control.Tokens = []daemon.Token{{Name: "a", Token: "token-that-is-long"}}
	})
	logged := r.reload(t, func(cfg *daemon.Config) {
		cfg.REST.Addr = "127.0.0.1:0"
		cfg.Control.Tokens = nil
		cfg.SSE.MaxConnections = 7
	})
	const want = `error="conflicts with settings that can't change without a restart: rest.addr: given \"0.0.0.0:0\" with no control.tokens; want `
	if !strings.Contains(logged, want) || strings.Contains(logged, `"configuration reloaded"`) {
		t.Errorf("the log is\n%s\nwant %s", logged, want)
	}
	web := client(t)
	if got := get(t, web, "http://"+daemon.Reachable(r.REST)+"/v1/stats"); !strings.HasPrefix(got, "401 ") {
		t.Errorf("a call without a token gets %s", got)
	}
	if metrics := get(t, web, "http://"+daemon.Reachable(r.REST)+"/metrics"); strings.Contains(metrics, "\npeald_max_connections 7\n") {
		t.Error("some of the rejected settings are in effect")
	}
}

// TestReloadKeys changes the secret while a user's stream is open.
func TestReloadKeys(t *testing.T) {
	const other = "fedcba9876543210fedcba9876543210"
	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = secret })
	rpc, _ := controlClient(t, r.GRPC)
	mint := func() string {
		reply, err := rpc.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice"})
		if err != nil {
			t.Fatal(err)
		}

		return "http://" + r.SSE + "/events?access_token=" + reply.GetToken()
	}

	web := client(t)
	old := mint()
	open := stream(t, web, old)
	logged := r.reload(t, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = other })
	if !strings.Contains(logged, "changed=auth.jwt.hmac_secret\n") || strings.Contains(logged, other) {
		t.Errorf("the log is\n%s", logged)
	}
	if got := get(t, web, old); !strings.HasPrefix(got, "401 ") {
		t.Errorf("a token signed with the old secret gets %s", got)
	}

	stream(t, web, mint())
	reply, err := rpc.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "still here"})
	if err != nil || reply.GetRecipients() != 2 {
		t.Errorf("SendToUser returned %v, %v", reply, err)
	}

	awaitLine(t, open, "data: still here")
	logged = r.reload(t, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = "" })
	if !strings.Contains(logged, "all streams are anonymous") {
		t.Errorf("the log is\n%s", logged)
	}
	if _, err := rpc.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice"}); err == nil {
		t.Error("the daemon signs without a secret")
	}
}

// TestReloadProxy calls the application directly, then through a proxy that
// answers in its place.
func TestReloadProxy(t *testing.T) {
	t.Parallel()

	answering := func(status int) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)

		return s
	}
	application, proxy := answering(http.StatusUnauthorized), answering(http.StatusForbidden)
	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) { cfg.Auth.CallbackURL = application.URL })
	want := func(status int) {
		t.Helper()

		resp, err := client(t).Get("http://" + r.SSE + "/events")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()

		if resp.StatusCode != status {
			t.Errorf("status %d, want %d", resp.StatusCode, status)
		}
	}

	want(http.StatusUnauthorized)
	r.reload(t, func(cfg *daemon.Config) { cfg.Auth.HTTPProxy = proxy.URL })
	want(http.StatusForbidden)
}

func TestReloadProxyProtocol(t *testing.T) {
	r := startReloadable(t, daemon.Options{}, func(*daemon.Config) {})
	web := client(t)
	url := "http://" + r.SSE + "/events"
	stream(t, web, url)
	r.reload(t, func(cfg *daemon.Config) {
		cfg.SSE.ProxyProtocol, cfg.SSE.TrustedProxies = true, []string{"127.0.0.0/8"}
	})
	if resp, err := client(t).Get(url); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("a proxy that sends no header gets a stream")
		}
	}
	r.reload(t, func(*daemon.Config) {})
	stream(t, client(t), url)
}

func TestReloadDemo(t *testing.T) {
	r := startReloadable(t, daemon.Options{Demo: true}, func(*daemon.Config) {})
	page := func() string { return get(t, client(t), "http://"+r.SSE+"/") }
	before := page()
	logged := r.reload(t, func(cfg *daemon.Config) {
		cfg.Control.Tokens = []daemon.Token{{Name: "a", Token: "token-that-is-long"}}
	})
	// The generated secret stays, so it isn't a change.
	if !strings.Contains(logged, "changed=control.tokens\n") {
		t.Errorf("the log is\n%s", logged)
	}
	if page() == before {
		t.Error("the demo page hasn't changed with control.tokens")
	}
	logged = r.reload(t, func(cfg *daemon.Config) { cfg.SSE.Client = false })
	if !strings.Contains(logged, "sse.client: given false with --demo") {
		t.Errorf("the log is\n%s", logged)
	}
}

// TestReloadsUnderLoad is for the race detector.
func TestReloadsUnderLoad(t *testing.T) {
	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = secret })
	var running sync.WaitGroup

	for range 3 {
		running.Go(func() {
			web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for range 30 {
				for _, url := range []string{"http://" + r.REST + "/metrics", "http://" + r.REST + "/v1/stats", "http://" + r.SSE + "/events?access_token=x"} {
					resp, err := web.Get(url)
					if err != nil {
						t.Error(err)
						return
					}
					_ = resp.Body.Close()
				}
			}
		})
	}

	for i := range 40 {
		next := r.cfg
		next.Auth.JWT.Issuer = strings.Repeat("i", i%3)
		next.SSE.Heartbeat = time.Duration(1+i%2) * time.Second
		next.SSE.MaxConnections = i % 2 * 1000
		next.SSE.TrustedProxies = []string{"192.0.2.1"}[:i%2]
		next.History.MaxEvents = i % 3 * 10
		r.give(t, daemon.Reload{Config: next, Reread: true})
	}

	running.Wait()
}
