// Package e2e_test tests whole daemons from the outside: over gRPC, over REST, and
// with streams opened by browsers and third-party clients.
package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

const patience = 3 * time.Minute

// soaking reports whether the tests run in full, as in make soak: each test of a page in
// all browsers, and those of EventSource with both engines. Otherwise some run in fewer,
// because browsers take most of the CPU time of this package. In every run, EventSource and
// the JavaScript client resume in all browsers.
func soaking() bool { return os.Getenv("SOAK") != "" }

// inBrowsers runs a test in some kinds of browsers, or when soaking in all of them, as
// parallel subtests.
func inBrowsers(t *testing.T, some []browsertest.Kind, test func(t *testing.T, b *browsertest.Browser)) {
	t.Helper()

	if soaking() {
		some = browsertest.Kinds()
	}

	for _, kind := range some {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, browsertest.Start(t, kind))
		})
	}
}

// inEachBrowser runs a test with each engine, in the browsers for it.
func inEachBrowser(t *testing.T, test func(t *testing.T, b *browsertest.Browser, engine func(*daemon.Config))) {
	t.Helper()
	pealdtest.OnEachEngine(t, func(t *testing.T, engine func(*daemon.Config)) {
		for _, kind := range browsersFor(engine) {
			t.Run(string(kind), func(t *testing.T) {
				t.Parallel()
				test(t, browsertest.Start(t, kind), engine)
			})
		}
	})
}

// browsersFor returns the browsers to test an engine in: only Chromium for
// net/http if the test also runs with the other engine, otherwise all. Both
// engines send the same bytes.
func browsersFor(engine func(*daemon.Config)) []browsertest.Kind {
	var cfg daemon.Config

	engine(&cfg)

	if cfg.SSE.Engine == daemon.EngineNetHTTP && runtime.GOOS == "linux" && !soaking() {
		return []browsertest.Kind{browsertest.Chromium}
	}

	return browsertest.Kinds()
}

// TestBrowser tests the page in examples/html, which has a plain EventSource and a
// different origin from the daemon's. TestBrowserResumes uses it in all browsers; this test
// does with SOAK.
func TestBrowser(t *testing.T) {
	t.Parallel()
	pealdtest.OnEachEngine(t, func(t *testing.T, engine func(*daemon.Config)) {
		t.Helper()
		inBrowsers(t, []browsertest.Kind{browsertest.Chromium}, func(t *testing.T, b *browsertest.Browser) {
			t.Helper()
			testBrowser(t, b, engine)
		})
	})
}

func testBrowser(t *testing.T, b *browsertest.Browser, engine func(*daemon.Config)) {
	t.Helper()

	pages := httptest.NewServer(http.FileServer(http.Dir("../examples/html")))
	t.Cleanup(pages.Close)

	configure := func(cfg *daemon.Config) {
		cfg.SSE.AllowedOrigins = []string{pages.URL}
		cfg.SSE.Retry = 50 * time.Millisecond
	}
	d := pealdtest.Start(t, engine, configure)

	address := func(stream string) string {
		return pages.URL + "/?types=greeting&url=" + url.QueryEscape(stream)
	}
	visit := func(stream string) listPage {
		t.Helper()

		return listPage{b.Open(t, address(stream))}
	}

	t.Run("invalid address", func(t *testing.T) {
		page := listPage{b.NewTab(t)}

		for _, given := range []string{"localhost:8080/events", "events", "http://"} {
			page.Open(t, address(given))
			page.WaitFor(t, `element("state").textContent.startsWith("invalid url ")`)
		}
	})

	alice, nobody := visit(d.Events(t, "alice")), visit(d.Events(t, ""))
	for _, page := range []listPage{alice, nobody} {
		page.WaitFor(t, `element("state").dataset.state === "open"`)
	}

	// Browsers accept gzip, and this is large enough to be compressed.
	orders := jsonOf(t, strings.Repeat(`{"order":4711,"status":"verschickt — 世界"},`, 60))

	const (
		toAll   = "an alle:\n  Grüße, 世界 🌍\n\nund Schluß"
		toAlice = "für alice\r\n— zweite Zeile"
	)

	rest(t, d, http.MethodPost, "/v1/broadcast", jsonOf(t, map[string]string{"data": toAll}), &pealv1.BroadcastResponse{})

	control := d.Control(t)
	for _, message := range []*pealv1.SendToUserRequest{
		{UserId: "bob", Data: "not for alice"},
		{UserId: "alice", Data: toAlice},
		{UserId: "alice", Data: orders},
		{UserId: "alice", Event: "greeting", Data: "<b>&amp;</b>"},
	} {
		if _, err := control.SendToUser(t.Context(), message); err != nil {
			t.Fatal(err)
		}
	}

	alice.wantEvents(t, []string{
		"broadcast", toAll,
		"individual", "für alice\n— zweite Zeile",
		"individual", orders,
		"greeting", "<b>&amp;</b>",
	})

	// Events arrive in order, so this one is the last.
	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "end"}); err != nil {
		t.Fatal(err)
	}

	nobody.wantEvents(t, []string{"broadcast", toAll, "broadcast", "end"})

	t.Run("invalid token is rejected permanently", func(t *testing.T) {
		forged := visit(d.Events(t, "") + "?access_token=forged")
		forged.WaitFor(t, `element("state").dataset.state === "closed"`)
	})

	t.Run("browser reconnects after a restart", func(t *testing.T) {
		d.Stop(t)
		alice.WaitFor(t, `element("state").dataset.state === "connecting"`)

		again := pealdtest.Start(t, engine, configure, func(cfg *daemon.Config) { cfg.SSE.Addr = d.SSE })
		alice.WaitFor(t, `element("state").dataset.state === "open"`)

		sent, err := again.Control(t).SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "back"})
		if err != nil {
			t.Fatal(err)
		}

		if sent.GetRecipients() != 1 {
			t.Errorf("alice has %d streams after the restart, want 1", sent.GetRecipients())
		}

		alice.WaitFor(t, `document.querySelector("li pre").textContent === "back"`)
	})
}

// listPage is a tab with the page in examples/html.
type listPage struct{ *browsertest.Tab }

// events waits until the page displays n events or more, and returns the type and
// the data of each, oldest first.
func (p listPage) events(t *testing.T, n int) []string {
	t.Helper()
	p.WaitFor(t, `document.querySelectorAll("li").length >= `+jsonOf(t, n))

	var shown []string

	p.Eval(t, `[...document.querySelectorAll("li")].reverse().flatMap(
		(item) => [item.dataset.type, item.querySelector("pre").textContent])`, &shown)

	return shown
}

// wantEvents waits until the page displays as many events as want has pairs of
// type and data, and compares them, oldest first.
func (p listPage) wantEvents(t *testing.T, want []string) {
	t.Helper()

	if shown := p.events(t, len(want)/2); !slices.Equal(shown, want) {
		t.Errorf("the page displays\n%q, want\n%q", shown, want)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()

	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}
