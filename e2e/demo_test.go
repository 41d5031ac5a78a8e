package e2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// TestDemoPage does what somebody does who is shown the demo: opens the page,
// watches, picks a name, and sends something to that name.
func TestDemoPage(t *testing.T) {
	t.Parallel()
	browsertest.Each(t, testDemoPage)
}

func testDemoPage(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	quick := func(cfg *daemon.Config) { cfg.SSE.Retry = 50 * time.Millisecond }
	d := pealdtest.StartDemo(t, quick)
	page := demoPage{b.Open(t, "http://"+d.SSE+"/")}

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

	t.Run("disconnected, it misses nothing", func(t *testing.T) {
		if _, err := d.Control(t).Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: name}); err != nil {
			t.Fatal(err)
		}

		for n := range 5 {
			message := &pealv1.SendToUserRequest{UserId: name, Data: fmt.Sprintf("while away, %d", n)}
			if _, err := d.Control(t).SendToUser(t.Context(), message); err != nil {
				t.Fatal(err)
			}
		}

		page.waitUntil(t, `all(".event[data-type=individual] .text").filter((text) => text.startsWith("while away")).join() ===
			[4, 3, 2, 1, 0].map((n) => "while away, " + n).join()`)
	})

	// The daemon may yet have to notice that streams of before are closed.
	d.WaitForStreams(t, 1)

	t.Run("its commands work", func(t *testing.T) {
		var commands []string

		page.Eval(t, `[...document.querySelectorAll(".commands code")].map((code) => code.textContent)`, &commands)

		for i, want := range []string{`"recipients":1`, `"recipients":1`, `"connections":1`} {
			if answer := inShell(t, commands[i]); !strings.Contains(answer, want) {
				t.Errorf("%s\nanswers %s, want %s", commands[i], answer, want)
			}
		}

		page.waitUntil(t, `["Hello, everybody", "Just for you"].every((sent) => all(".event .text").includes(sent))`)
	})

	t.Run("a name that cannot be", func(t *testing.T) {
		page.Eval(t, `document.querySelector("#name").value = "ü".repeat(200)`, nil)
		page.pick(t, "")
		page.waitUntil(t, `all("#problem")[0].startsWith("user is 400 bytes long")`)
		// It is not taken on: the stream goes on as it was.
		page.waitUntil(t, `all("#state", "#who").join() === "Connected,`+name+`"`)
		sendTo(t, d, name, "still here")
		page.waitUntil(t, `all(".event[data-type=individual] .text").includes("still here")`)
	})

	t.Run("two tabs are two users, even after a restart", func(t *testing.T) {
		page.pick(t, "alice")
		page.waitUntil(t, `all("#state", "#who").join() === "Connected,alice"`)

		second := demoPage{b.Open(t, "http://"+d.SSE+"/")}
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

		second.Reload(t)
		second.waitUntil(t, `all("#state", "#who").join() === "Connected,bob"`)
	})

	t.Run("disconnect", func(t *testing.T) {
		page.Click(t, "#toggle")
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
type demoPage struct{ *browsertest.Tab }

// waitUntil is WaitFor with a condition in which all returns the texts of the
// elements that selectors find.
func (p demoPage) waitUntil(t *testing.T, condition string) {
	t.Helper()
	p.WaitFor(t, `((all) => (`+condition+`))(
		(...selectors) => selectors.flatMap((s) => [...document.querySelectorAll(s)].map((e) => e.textContent)))`)
}

// pick types a name, and Enter.
func (p demoPage) pick(t *testing.T, name string) {
	t.Helper()
	p.Type(t, "#name", name+browsertest.KeyEnter)
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
