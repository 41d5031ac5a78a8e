package e2e_test

import (
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// TestDemoPage does what somebody does who is shown the demo: opens the page,
// watches, picks a name, and sends something to that name.
func TestDemoPage(t *testing.T) {
	chromium := startChromium(t)
	quick := func(cfg *daemon.Config) { cfg.SSE.Retry = 50 * time.Millisecond }
	d := pealdtest.StartDemo(t, quick)
	page := demoPage{chromium.open(t, "http://"+d.SSE+"/")}

	page.waitUntil(t, `all("#state", "#who").join() === "Connected,Anonymous"`)
	page.waitUntil(t, `all(".event[data-type=broadcast]").length > 0 && all("#count-broadcast")[0] > 0`)
	page.waitUntil(t, `document.querySelector(".try a").href === `+jsonOf(t, d.URL("/")))

	const (
		name = "Zoë <O'Neil> & ☀/?"
		text = "<b>für</b>\n  Zoë"
	)

	page.pick(t, name)
	page.waitUntil(t, `all("#state", "#who").join() === "Connected,`+name+`"`)
	sendTo(t, d, name, text)
	page.waitUntil(t, `all(".event[data-type=individual] .text").includes(`+jsonOf(t, text)+`)`)
	page.waitUntil(t, `all(".event .badge").includes(`+jsonOf(t, "individual · for "+name)+`)`)

	t.Run("what the examples send, and what is no text", func(t *testing.T) {
		rest(t, d, http.MethodPost, "/v1/users/"+url.PathEscape(name)+"/messages", `{"event": "greeting", "data": "{\"title\": \"Hi\", \"text\": {\"from\": [\"Go\"]}}"}`, &pealv1.SendToUserResponse{})
		page.waitUntil(t, `all(".event[data-type=greeting].for-one .text").includes('{"from":["Go"]}')`)
		page.waitUntil(t, `all(".event .badge").includes(`+jsonOf(t, "greeting · for "+name)+`)`)
	})

	t.Run("its commands work", func(t *testing.T) {
		commands, err := chromedp.Run(page.ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".commands code")].map((code) => code.textContent)`))
		if err != nil {
			t.Fatal(err)
		}

		for i, want := range []string{`"recipients":1`, `"recipients":1`, `"connections":1`} {
			if answer := inShell(t, commands[i]); !strings.Contains(answer, want) {
				t.Errorf("%s\nanswers %s, want %s", commands[i], answer, want)
			}
		}

		page.waitUntil(t, `["Hello, everybody", "Just for you"].every((sent) => all(".event .text").includes(sent))`)
	})

	t.Run("a name that cannot be", func(t *testing.T) {
		page.pick(t, strings.Repeat("ü", 200))
		page.waitUntil(t, `all("#problem")[0].startsWith("user is 400 bytes long")`)
		// It is not taken on: the stream goes on as it was.
		page.waitUntil(t, `all("#state", "#who").join() === "Connected,`+name+`"`)
		sendTo(t, d, name, "still here")
		page.waitUntil(t, `all(".event[data-type=individual] .text").includes("still here")`)
	})

	t.Run("two tabs are two users, even after a restart", func(t *testing.T) {
		page.pick(t, "alice")
		page.waitUntil(t, `all("#state", "#who").join() === "Connected,alice"`)

		second := demoPage{chromium.open(t, "http://"+d.SSE+"/")}
		second.waitUntil(t, `all("#state")[0] === "Connected"`)
		second.pick(t, "bob")
		second.waitUntil(t, `all("#state", "#who").join() === "Connected,bob"`)
		sendTo(t, d, "alice", "first")
		sendTo(t, d, "bob", "first")

		d.Stop(t)

		for _, p := range []demoPage{page, second} {
			p.waitUntil(t, `all("#state")[0] === "Reconnecting…"`)
		}

		// Whose tokens are of no use any more.
		again := pealdtest.StartDemo(t, quick, func(cfg *daemon.Config) {
			cfg.SSE.Addr = d.SSE
			cfg.Auth.JWT.HMACSecret = strings.Repeat("another", 8)
		})

		for user, p := range map[string]demoPage{"alice": page, "bob": second} {
			p.waitUntil(t, `all("#state", "#who").join() === "Connected,`+user+`"`)
			sendTo(t, again, user, "again to "+user)
			p.waitUntil(t, `all(".event[data-type=individual] .text").includes("again to `+user+`")`)
		}

		if err := chromedp.Do(second.ctx, chromedp.Reload()); err != nil {
			t.Fatal(err)
		}

		second.waitUntil(t, `all("#state", "#who").join() === "Connected,bob"`)
	})

	t.Run("disconnect", func(t *testing.T) {
		if err := chromedp.Do(page.ctx, chromedp.Click(chromedp.CSS("#toggle"))); err != nil {
			t.Fatal(err)
		}

		page.waitUntil(t, `all("#state", "#toggle").join() === "Not connected,Connect"`)
	})
}

// sendTo sends text to the one stream of a user.
func sendTo(t *testing.T, d *pealdtest.Daemon, user, text string) {
	t.Helper()

	var sent pealv1.SendToUserResponse

	rest(t, d, http.MethodPost, "/v1/users/"+url.PathEscape(user)+"/messages", `{"data":`+jsonOf(t, text)+`}`, &sent)

	if sent.GetRecipients() != 1 {
		t.Errorf("%q got an event on %d streams, want 1", user, sent.GetRecipients())
	}
}

// demoPage is a tab that shows the demo.
type demoPage struct{ *tab }

// waitUntil is waitFor for a page whose policy forbids what that needs. In the
// condition, all returns the texts of the elements that selectors find.
func (p demoPage) waitUntil(t *testing.T, condition string) {
	t.Helper()

	_, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](`new Promise((resolve) => {
		const all = (...selectors) => selectors.flatMap((s) => [...document.querySelectorAll(s)].map((e) => e.textContent));
		const look = () => (`+condition+`) ? resolve(true) : setTimeout(look, 10);
		look();
	})`, chromedp.EvalAwaitPromise))
	if err != nil {
		shown, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		t.Fatalf("waiting for %s: %v; the page shows:\n%s", condition, err, shown)
	}
}

// pick types a name, and Enter.
func (p demoPage) pick(t *testing.T, name string) {
	t.Helper()

	if err := chromedp.Do(p.ctx, chromedp.SendKeys(chromedp.CSS("#name"), name+"\r")); err != nil {
		t.Fatalf("picking the name %q: %v", name, err)
	}
}

// inShell returns what a command that runs curl prints.
func inShell(t *testing.T, command string) string {
	t.Helper()
	pealdtest.Program(t, "curl")

	out, err := exec.CommandContext(t.Context(), pealdtest.Program(t, "sh"), "-c", command).Output()
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}

	return string(out)
}
