// Package e2e_test drives whole daemons from outside: by gRPC, by REST, and
// with streams held by a browser and by clients that others wrote.
package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

const patience = 30 * time.Second

// TestBrowser watches the page of examples/html, which holds a plain
// EventSource and is of another origin than the daemon.
func TestBrowser(t *testing.T) {
	t.Parallel()
	pealdtest.OnEachEngine(t, testBrowser)
}

func testBrowser(t *testing.T, engine func(*daemon.Config)) {
	t.Helper()

	chromium := startChromium(t)
	pages := httptest.NewServer(http.FileServer(http.Dir("../examples/html")))
	t.Cleanup(pages.Close)

	configure := func(cfg *daemon.Config) {
		cfg.SSE.AllowedOrigins = []string{pages.URL}
		cfg.SSE.Retry = 50 * time.Millisecond
	}
	d := pealdtest.Start(t, engine, configure)

	visit := func(stream string) *tab {
		t.Helper()

		return chromium.open(t, pages.URL+"/?types=greeting&url="+url.QueryEscape(stream))
	}

	t.Run("an address that is none", func(t *testing.T) {
		for _, given := range []string{"localhost:8080/events", "events", "http://"} {
			visit(given).waitFor(t, `element("state").textContent.startsWith("url is no address of a stream")`)
		}
	})

	alice, nobody := visit(d.Events(t, "alice")), visit(d.Events(t, ""))
	for _, page := range []*tab{alice, nobody} {
		page.waitFor(t, `element("state").dataset.state === "open"`)
	}

	const (
		toAll   = "an alle:\n  Grüße, 世界 🌍\n\nund Schluß"
		toAlice = "für alice\r\n— zweite Zeile"
	)

	rest(t, d, http.MethodPost, "/v1/broadcast", jsonOf(t, map[string]string{"data": toAll}), &pealv1.BroadcastResponse{})

	control := d.Control(t)
	for _, message := range []*pealv1.SendToUserRequest{
		{UserId: "bob", Data: "not for alice"},
		{UserId: "alice", Data: toAlice},
		{UserId: "alice", Event: "greeting", Data: "<b>&amp;</b>"},
	} {
		if _, err := control.SendToUser(t.Context(), message); err != nil {
			t.Fatal(err)
		}
	}

	alice.wantEvents(t, []string{
		"broadcast", toAll,
		"individual", "für alice\n— zweite Zeile",
		"greeting", "<b>&amp;</b>",
	})

	// Once this one is there, all that was to come before it is.
	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "end"}); err != nil {
		t.Fatal(err)
	}

	nobody.wantEvents(t, []string{"broadcast", toAll, "broadcast", "end"})

	t.Run("a bad token is refused for good", func(t *testing.T) {
		forged := visit(d.Events(t, "") + "?access_token=forged")
		forged.waitFor(t, `element("state").dataset.state === "closed"`)
	})

	t.Run("the browser comes back after a restart", func(t *testing.T) {
		d.Stop(t)
		alice.waitFor(t, `element("state").dataset.state === "connecting"`)

		again := pealdtest.Start(t, engine, configure, func(cfg *daemon.Config) { cfg.SSE.Addr = d.SSE })
		alice.waitFor(t, `element("state").dataset.state === "open"`)

		sent, err := again.Control(t).SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "back"})
		if err != nil {
			t.Fatal(err)
		}

		if sent.GetRecipients() != 1 {
			t.Errorf("%d streams of alice after the restart, want the one that came back", sent.GetRecipients())
		}

		alice.waitFor(t, `document.querySelector("li pre").textContent === "back"`)
	})
}

// chromium is a running browser.
type chromium struct{ ctx context.Context }

// startChromium starts a browser with a profile of its own, or ends the test
// where there is none.
func startChromium(t *testing.T, more ...chromedp.ExecAllocatorOption) chromium {
	t.Helper()

	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(pealdtest.Program(t, "chromium", "chromium-browser", "google-chrome")),
		// Its sandbox refuses to run as root, as which CI runs; the pages
		// are the test's own.
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
	)
	allocator, cancelAllocator := chromedp.NewExecAllocator(t.Context(), append(options, more...)...)
	t.Cleanup(cancelAllocator)

	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)

	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}

	return chromium{ctx}
}

// tab is one tab of a browser, with a page open.
type tab struct{ ctx context.Context }

func (c chromium) open(t *testing.T, page string) *tab {
	t.Helper()

	opened := c.newTab(t, patience)
	if err := chromedp.Do(opened.ctx, chromedp.Navigate(page)); err != nil {
		t.Fatalf("opening %s: %v", page, err)
	}

	return opened
}

// newTab opens a tab that is of use for so long.
func (c chromium) newTab(t *testing.T, lasts time.Duration) *tab {
	t.Helper()

	ctx, cancelTab := chromedp.NewContext(c.ctx)
	t.Cleanup(cancelTab)

	ctx, cancel := context.WithTimeout(ctx, lasts)
	t.Cleanup(cancel)

	return &tab{ctx}
}

// waitFor returns when a condition, in JavaScript, holds in the page.
func (p *tab) waitFor(t *testing.T, condition string) {
	t.Helper()

	_, err := chromedp.Run(p.ctx, chromedp.Poll[bool](condition, chromedp.WithPollingMutation()))
	if err != nil {
		shown, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		t.Fatalf("waiting for %s: %v; the page shows:\n%s", condition, err, shown)
	}
}

// events waits until the page shows n events or more, and returns the type and
// the data of each, oldest first.
func (p *tab) events(t *testing.T, n int) []string {
	t.Helper()

	shown, err := chromedp.Run(p.ctx, chromedp.Poll[[]string](`(() => {
		const items = [...document.querySelectorAll("li")].reverse();
		return items.length >= `+jsonOf(t, n)+` &&
			items.flatMap((item) => [item.dataset.type, item.querySelector("pre").textContent]);
	})()`, chromedp.WithPollingMutation()))
	if err != nil {
		t.Fatalf("waiting for %d events: %v", n, err)
	}

	return shown
}

// wantEvents waits until the page shows as many events as there are types and
// data in want, and compares them, oldest first.
func (p *tab) wantEvents(t *testing.T, want []string) {
	t.Helper()

	if shown := p.events(t, len(want)/2); !slices.Equal(shown, want) {
		t.Errorf("the page shows\n%q, want\n%q", shown, want)
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
