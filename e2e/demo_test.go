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
	"github.com/peald/peald/internal/testbed"
)

// TestDemoPage uses the demo page as a visitor would: it watches events, connects
// under a name, subscribes to topics, and publishes.
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
	page.waitUntil(t, `/^[a-z]+-[a-z]+-[0-9]{2}$/.test(document.querySelector("#name").value)`)
	page.waitUntil(t, `document.querySelector("#topics").disabled && document.querySelector("#publish-form [value=user]").disabled`)

	const (
		name = "Zoë <O'Neil> & ☀/?"
		text = "<b>für</b>\n  Zoë"
	)

	page.pick(t, name)
	page.waitUntil(t, `all("#state", "#who").join() === "Connected,`+name+`"`)
	sendTo(t, d, name, text)
	page.waitUntil(t, `all(".event[data-type=individual] .text").includes(`+jsonOf(t, text)+`)`)
	page.waitUntil(t, `all(".event .badge").includes(`+jsonOf(t, "individual · for "+name)+`)`)

	t.Run("publishing", func(t *testing.T) { page.testPublish(t) })
	t.Run("greeting with JSON that isn't text", func(t *testing.T) {
		rest(t, d, http.MethodPost, "/v1/users/"+url.PathEscape(name)+"/messages", `{"event": "greeting", "data": "{\"title\": \"Hi\", \"text\": {\"from\": [\"Go\"]}}"}`, &pealv1.SendToUserResponse{})
		page.waitUntil(t, `all(".event[data-type=greeting].for-one .text").includes('{"from":["Go"]}')`)
		page.waitUntil(t, `all(".event .badge").includes(`+jsonOf(t, "greeting · for "+name)+`)`)
	})

	t.Run("reconnecting without a gap", func(t *testing.T) {
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

	// The daemon may not have noticed yet that previous streams are closed.
	waitForUser(t, d, name, 1)

	t.Run("commands", func(t *testing.T) {
		var commands []string

		page.Eval(t, `[...document.querySelectorAll(".commands code")].map((code) => code.textContent)`, &commands)

		for i, want := range []string{`"recipients":`, `"recipients":1`, `"recipients":`, `"connections":1`} {
			if reply := inShell(t, commands[i]); !strings.Contains(reply, want) {
				t.Errorf("%s\nprinted %s, want %s", commands[i], reply, want)
			}
		}

		page.waitUntil(t, `["Hello, everyone", "Just for you", "Lunch is ready"].every((sent) => all(".event .text").includes(sent))`)
	})

	t.Run("invalid name", func(t *testing.T) {
		page.pick(t, strings.Repeat("ü", 200))
		page.waitUntil(t, `all("#problem")[0].startsWith("user is 400 bytes long")`)
		// The previous stream stays open.
		page.waitUntil(t, `all("#state", "#who").join() === "Connected,`+name+`"`)
		sendTo(t, d, name, "still here")
		page.waitUntil(t, `all(".event[data-type=individual] .text").includes("still here")`)
	})

	t.Run("two tabs are two users, across a restart", func(t *testing.T) {
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

		// The previous daemon's tokens are invalid now.
		again := pealdtest.StartDemo(t, quick, func(cfg *daemon.Config) {
			cfg.SSE.Addr = d.SSE
			cfg.Auth.JWT.HMACSecret = strings.Repeat("another", 8)
		})

		for user, p := range map[string]demoPage{"alice": page, "bob": second} {
			p.waitUntil(t, `all("#state", "#who").join() === "Connected,`+user+`"`)
			sendTo(t, again, user, "again to "+user)
			p.waitUntil(t, `all(".event[data-type=individual] .text").includes("again to `+user+`")`)
			p.waitUntil(t, `all(".event[data-type='peald.reset'] .title").join() === "Events are missing"`)
		}

		second.Reload(t)
		second.waitUntil(t, `all("#state", "#who").join() === "Connected,bob"`)
	})

	t.Run("disconnect", func(t *testing.T) {
		page.Click(t, "#toggle")
		page.waitUntil(t, `all("#state", "#toggle").join() === "Disconnected,Connect"`)
	})
}

// testPublish publishes with the page's form, and subscribes to a topic.
func (p demoPage) testPublish(t *testing.T) {
	t.Helper()

	publish := func(audience, text string) {
		t.Helper()
		p.Click(t, "#publish-form [value="+audience+"]")
		p.Fill(t, "#publish-data", text)
		p.Click(t, "#publish-form [type=submit]")
		p.waitUntil(t, `all(".event .text").includes(`+jsonOf(t, text)+`)`)
	}

	publish("user", "to me")
	p.waitUntil(t, `all("#publish-result")[0] === "Sent to 1 stream"`)
	publish("everyone", "to everyone")

	// The page is subscribed to chat.workshop from the start.
	publish("topic", "to the workshop")
	p.waitUntil(t, `all(".event.for-topic").length > 0 && all("#count-topic")[0] > 0`)

	p.Fill(t, "#publish-topic", "prices.*")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-problem")[0].includes("pattern")`)

	// Another topic, at run time: events of the others keep coming.
	p.Click(t, "#topics [value='prices.*']")
	p.waitUntil(t, `all("#state")[0] === "Connected" && all(".event .badge").some((badge) => badge.startsWith("topic · prices."))`)
	p.Fill(t, "#publish-topic", "prices.gongs")
	publish("topic", "a price")
	publish("everyone", "back to everyone")
}

// waitForUser waits until a user has n streams.
func waitForUser(t *testing.T, d *pealdtest.Daemon, user string, n int32) {
	t.Helper()

	deadline := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)

	defer again.Stop()

	for {
		users, err := d.Control(t).ListUsers(t.Context(), &pealv1.ListUsersRequest{Prefix: user})
		if err != nil {
			t.Fatal(err)
		}

		if list := users.GetUsers(); len(list) == 1 && list[0].GetConnections() == n {
			return
		}

		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("user %q never has %d streams", user, n)
		}
	}
}

// sendTo sends text to the only stream of a user.
func sendTo(t *testing.T, d *pealdtest.Daemon, user, text string) {
	t.Helper()

	var sent pealv1.SendToUserResponse

	rest(t, d, http.MethodPost, "/v1/users/"+url.PathEscape(user)+"/messages", `{"data":`+jsonOf(t, text)+`}`, &sent)

	if sent.GetRecipients() != 1 {
		t.Errorf("the event for %q was queued to %d streams, want 1", user, sent.GetRecipients())
	}
}

// demoPage is a tab with the demo page.
type demoPage struct{ *browsertest.Tab }

// waitUntil is like WaitFor, but provides the condition with a function all, which
// returns the texts of the elements that match selectors.
func (p demoPage) waitUntil(t *testing.T, condition string) {
	t.Helper()
	p.WaitFor(t, `((all) => (`+condition+`))(
		(...selectors) => selectors.flatMap((s) => [...document.querySelectorAll(s)].map((e) => e.textContent)))`)
}

// pick enters a name and submits it.
func (p demoPage) pick(t *testing.T, name string) {
	t.Helper()
	p.Fill(t, "#name", name)
	p.Press(t, browsertest.KeyEnter)
}

// inShell runs a command that uses curl, and returns its output.
func inShell(t *testing.T, command string) string {
	t.Helper()
	testbed.Program(t, "curl")

	out, err := exec.CommandContext(t.Context(), testbed.Program(t, "sh"), "-c", command).Output()
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}

	return string(out)
}
