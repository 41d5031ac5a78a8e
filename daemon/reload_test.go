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
	"github.com/peald/peald/internal/pealdtest"
)

// reloadable is a daemon whose settings a test changes.
type reloadable struct {
	running

	given chan daemon.Reload
	cfg   daemon.Config
	log   *pealdtest.Log
}

func startReloadable(t *testing.T, opts daemon.Options, change func(*daemon.Config)) *reloadable {
	t.Helper()
	r := &reloadable{given: make(chan daemon.Reload), cfg: onFreePorts(), log: &pealdtest.Log{}}
	change(&r.cfg)
	opts.Reload = r.given
	r.running = startOn(t, opts, r.cfg, slog.New(slog.NewTextHandler(r.log, nil)))
	return r
}

// reload gives the daemon what it started on but for change, and returns what
// the log says of it.
func (r *reloadable) reload(t *testing.T, change func(*daemon.Config)) string {
	t.Helper()
	next := r.cfg
	change(&next)
	r.log.Take()
	r.give(t, daemon.Reload{Config: next})
	var said strings.Builder
	for late := time.After(patience); ; {
		said.WriteString(r.log.Take())
		if text := said.String(); strings.Contains(text, "reloaded") {
			return text
		}
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			t.Fatalf("the log says %q", said.String())
		}
	}
}

func (r *reloadable) give(t *testing.T, next daemon.Reload) {
	t.Helper()
	select {
	case r.given <- next:
	case <-time.After(patience):
		t.Fatal("the daemon takes no settings")
	}
}

// TestNoTokensOnAnOpenAddress holds that what takes a restart counts for what
// doesn't: the file by itself would be in order.
func TestNoTokensOnAnOpenAddress(t *testing.T) {
	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) {
		cfg.REST.Addr = "0.0.0.0:0"
		cfg.Control.Tokens = []daemon.Token{{Name: "a", Token: "token-that-is-long"}}
	})
	said := r.reload(t, func(cfg *daemon.Config) {
		cfg.REST.Addr = "127.0.0.1:0"
		cfg.Control.Tokens = nil
		cfg.SSE.MaxConnections = 7
	})
	const want = `error="together with what takes a restart to change: rest.addr: given \"0.0.0.0:0\" with no control.tokens, accepted: `
	if !strings.Contains(said, want) || strings.Contains(said, `"configuration reloaded"`) {
		t.Errorf("the log says\n%s\nwant %s", said, want)
	}
	web := client(t)
	if got := get(t, web, "http://"+daemon.Reachable(r.REST)+"/v1/stats"); !strings.HasPrefix(got, "401 ") {
		t.Errorf("a call without a token gets %s", got)
	}
	if metrics := get(t, web, "http://"+daemon.Reachable(r.REST)+"/metrics"); strings.Contains(metrics, "\npeald_max_connections 7\n") {
		t.Error("a part of it was gone over to")
	}
}

// TestKeysChange looks at streams of users, and at who may sign.
func TestKeysChange(t *testing.T) {
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
	byOld := mint()
	open := stream(t, web, byOld)
	said := r.reload(t, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = other })
	if !strings.Contains(said, "changed=auth.jwt.hmac_secret\n") || strings.Contains(said, other) {
		t.Errorf("the log says\n%s", said)
	}
	if got := get(t, web, byOld); !strings.HasPrefix(got, "401 ") {
		t.Errorf("a token of the old key gets %s", got)
	}
	stream(t, web, mint())
	reply, err := rpc.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "still here"})
	if err != nil || reply.GetRecipients() != 2 {
		t.Errorf("alice has %v, %v", reply, err)
	}
	awaitLine(t, open, "data: still here")
	said = r.reload(t, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = "" })
	if !strings.Contains(said, "all streams are anonymous") {
		t.Errorf("the log says\n%s", said)
	}
	if _, err := rpc.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice"}); err == nil {
		t.Error("the daemon signs with no key")
	}
}

// TestProxyForTheApplicationChanges asks the application directly, then through
// a proxy that answers for it.
func TestProxyForTheApplicationChanges(t *testing.T) {
	t.Parallel()

	says := func(status int) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)

		return s
	}
	application, proxy := says(http.StatusUnauthorized), says(http.StatusForbidden)
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

func TestProxyProtocolChanges(t *testing.T) {
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
			t.Error("a proxy without a header gets a stream")
		}
	}
	r.reload(t, func(*daemon.Config) {})
	stream(t, client(t), url)
}

func TestDemoChanges(t *testing.T) {
	r := startReloadable(t, daemon.Options{Demo: true}, func(*daemon.Config) {})
	page := func() string { return get(t, client(t), "http://"+r.SSE+"/") }
	before := page()
	said := r.reload(t, func(cfg *daemon.Config) {
		cfg.Control.Tokens = []daemon.Token{{Name: "a", Token: "token-that-is-long"}}
	})
	// The secret that it has made up stays, and is no news.
	if !strings.Contains(said, "changed=control.tokens\n") {
		t.Errorf("the log says\n%s", said)
	}
	if page() == before {
		t.Error("the page doesn't know of the control token")
	}
	said = r.reload(t, func(cfg *daemon.Config) { cfg.Auth.Cookie = "" })
	if !strings.Contains(said, "auth.cookie: given") {
		t.Errorf("the log says\n%s", said)
	}
}

// TestReloadsUnderLoad has the race detector look, at metrics too.
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
