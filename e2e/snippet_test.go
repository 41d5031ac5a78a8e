package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// TestPageSnippet runs the script in docs/http.md that renews tokens, exactly as
// printed there. Without SOAK, that is in Chromium and in Firefox, which gives up
// reconnecting more often than other browsers.
func TestPageSnippet(t *testing.T) {
	t.Parallel()

	page, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}

	_, rest, _ := strings.Cut(string(page), "### A new token\n")
	_, rest, _ = strings.Cut(rest, "```js\n")

	snippet, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("docs/http.md has no script in its section on new tokens")
	}

	inBrowsers(t, []browsertest.Kind{browsertest.Chromium, browsertest.Firefox}, func(t *testing.T, b *browsertest.Browser) {
		t.Helper()
		testPageSnippet(t, b, snippet)
	})
}

func testPageSnippet(t *testing.T, browser *browsertest.Browser, snippet string) {
	t.Helper()

	configure := func(cfg *daemon.Config) {
		cfg.SSE.Retry = 50 * time.Millisecond
		cfg.Auth.Anonymous = false
	}
	d := pealdtest.Start(t, configure)
	s := &snippetSite{snippet: snippet, daemon: d.SSE, refresh: make(chan chan string)}
	s.token = tokenOf(t, d, "alice", 3*time.Second)
	s.open(t, "127.0.0.1:0")

	tab := browser.Open(t, "http://"+s.addr+"/")

	// On a slow machine the token may expire before the page is loaded.
	for opened := false; !opened; {
		select {
		case asked := <-s.refresh:
			asked <- tokenOf(t, d, "alice", 3*time.Second)
		case <-waitForStream(t, d):
			opened = true
		}
	}

	shows := func(want ...string) {
		t.Helper()
		tab.WaitFor(t, "JSON.stringify(shown) === "+jsonOf(t, jsonOf(t, want)))
	}

	send := func(d *pealdtest.Daemon, data string) {
		t.Helper()

		if _, err := d.Control(t).SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: data}); err != nil {
			t.Fatal(err)
		}
	}

	// The token expires before the first event, so the page can resume only from
	// the position mark.
	asked := s.wantRefresh(t)
	send(d, "while the token was expired")
	asked <- tokenOf(t, d, "alice", time.Hour)

	shows("while the token was expired")

	// Without a daemon, the site's server returns 502. Later, it stops too.
	d.Stop(t)
	s.wantRefresh(t) <- ""
	s.close()

	next := pealdtest.Start(t, configure, func(cfg *daemon.Config) { cfg.SSE.Addr = d.SSE })
	s.open(t, s.addr)

	for connected := false; !connected; {
		select {
		case asked := <-s.refresh: // any number of times
			asked <- tokenOf(t, next, "alice", time.Hour)
		case <-waitForStream(t, next):
			connected = true
		}
	}

	send(next, "from the next daemon")
	shows("while the token was expired", `reset unknown`, "from the next daemon")

	// A user who is logged out gets no new token.
	if _, err := next.Control(t).Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice", For: durationpb.New(time.Hour)}); err != nil {
		t.Fatal(err)
	}

	s.wantRefresh(t) <- "logged out"

	tab.WaitFor(t, "refused === 1")
}

// snippetSite is an application's server. It serves the page, issues tokens, and
// forwards the events path to a daemon.
type snippetSite struct {
	snippet string
	daemon  string
	token   string           // the one that the page is loaded with
	refresh chan chan string // receives the token for the reply, "logged out", or "" for 500

	addr   string
	server *httptest.Server
}

func (s *snippetSite) open(t *testing.T, addr string) {
	t.Helper()

	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}

	events := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.daemon})
	events.FlushInterval = -1
	events.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }

	mux := http.NewServeMux()
	mux.Handle("/events", events)
	mux.HandleFunc("POST /refresh-token", s.refreshToken)
	mux.HandleFunc("/", s.page)

	s.addr = listener.Addr().String()
	s.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}}
	s.server.Start()
	t.Cleanup(s.close)
}

// close stops the server and closes its connections.
func (s *snippetSite) close() {
	s.server.CloseClientConnections()
	s.server.Close()
}

// wantRefresh waits until the page requests a new token.
func (s *snippetSite) wantRefresh(t *testing.T) chan<- string {
	t.Helper()

	select {
	case asked := <-s.refresh:
		return asked
	case <-time.After(patience):
		t.Fatal("the page doesn't request a new token")

		return nil
	}
}

func (s *snippetSite) refreshToken(w http.ResponseWriter, r *http.Request) {
	asked := make(chan string, 1)
	select {
	case s.refresh <- asked:
	case <-r.Context().Done():
		return
	}

	select {
	case token := <-asked:
		switch token {
		case "":
			w.WriteHeader(http.StatusInternalServerError)
		case "logged out":
			w.WriteHeader(http.StatusForbidden)
		default:
			setToken(w, token)
		}
	case <-r.Context().Done():
	}
}

func (s *snippetSite) page(w http.ResponseWriter, _ *http.Request) {
	setToken(w, s.token)

	_, _ = fmt.Fprintf(w, `<!doctype html><meta charset="utf-8"><title>Snippet</title><script>
		const shown = [];
		let refused = 0;
		const show = (event) => shown.push(event.data);
		const loadState = (event) => shown.push("reset " + JSON.parse(event.data).reason);
		const realFetch = window.fetch;
		window.fetch = async (...args) => {
			const reply = await realFetch(...args);
			if (reply.status === 403) refused++;
			return reply;
		};
		%s
	</script>`, s.snippet)
}

func setToken(w http.ResponseWriter, token string) {
	http.SetCookie(w, &http.Cookie{Name: "peald_token", Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

func tokenOf(t *testing.T, d *pealdtest.Daemon, user string, ttl time.Duration) string {
	t.Helper()

	reply, err := d.Control(t).CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: user, Ttl: durationpb.New(ttl)})
	if err != nil {
		t.Fatal(err)
	}

	return reply.GetToken()
}

// waitForStream returns a channel that is closed once a daemon has a stream.
func waitForStream(t *testing.T, d *pealdtest.Daemon) <-chan struct{} {
	t.Helper()

	held := make(chan struct{})
	control := d.Control(t)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)

	go func() {
		defer cancel()

		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()

		for ctx.Err() == nil {
			stats, err := control.Stats(ctx, &pealv1.StatsRequest{})
			if err == nil && stats.GetTotal().GetConnections() > 0 {
				close(held)

				return
			}

			select {
			case <-again.C:
			case <-ctx.Done():
			}
		}
	}()

	return held
}
