package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// testConsoleAsksForAToken checks what each control token permits.
func testConsoleAsksForAToken(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Control.Tokens = []daemon.Token{
			{Name: "ops", Token: "the-operators-own-token"},
			{Name: "reader", Token: "the-readers-own-token", Scopes: []string{"read"}},
			{Name: "auditor", Token: "the-auditors-own-token", Scopes: []string{"read", "data"}},
			{Name: "shop", Token: "the-shops-own-token", Scopes: []string{"publish"}},
		}
	})
	listen(t, d, "alice", "news")
	if _, err := d.Control(t).Publish(t.Context(), &pealv1.PublishRequest{Topic: "news", Data: "kept", Retain: true}); err != nil {
		t.Fatal(err)
	}

	page := openConsole(t, b, d)
	use := func(token string) {
		t.Helper()
		page.Fill(t, "#token", token)
		page.Press(t, browsertest.KeyEnter)
	}

	page.waitUntil(t, `document.getElementById("token-dialog").open && document.activeElement.id === "token" && all("#state")[0] === "Token required"`)
	page.Click(t, "#token-close")
	page.waitUntil(t, `!document.getElementById("token-dialog").open`)
	page.Click(t, "#token-button")
	use("a guess")
	page.waitUntil(t, `all("#token-problem")[0].includes("unknown control token")`)
	use("the-readers-own-token")
	page.waitUntil(t, `!document.getElementById("token-dialog").open && all("#state", "#token-button").join() === "Serving,Token: reader"`)
	page.waitUntil(t, `all("#users tbody .key").join() === "alice"`)
	page.waitUntil(t, `all("#publish .denied", "#tail .denied").every((text) => /scope (publish|admin)/.test(text)) && document.querySelector("#publish [type=submit]").disabled`)
	page.waitUntil(t, `[...document.querySelectorAll("#users .actions button, #topics [data-act]:not([data-act=subscribers])")].every((button) => getComputedStyle(button).display === "none")`)

	page.act(t, "#topics tr[data-key=news]", "subscribers")
	page.waitUntil(t, `all("#subscribers-dialog tbody .key").join() === "alice"`)
	page.Click(t, "#subscribers-close")

	// The tab keeps the token, and nothing else does.
	page.Reload(t)
	page.waitUntil(t, `all("#users tbody .key").join() === "alice" && localStorage.getItem("control-token") === null && document.cookie === ""`)

	page.Click(t, "#token-button")
	page.waitUntil(t, `all("#token-scopes")[0].includes("“reader”, with the scopes read")`)
	use("the-shops-own-token")
	page.waitUntil(t, `all("#state")[0] === "Not permitted" && all("#users .denied")[0].includes("scope read") && !document.querySelector("#publish [type=submit]").disabled`)
	page.Fill(t, "#publish-data", "from the shop")
	page.Click(t, "#publish-form [type=submit]")
	page.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 1 stream as ")`)

	page.Click(t, "#token-button")
	use("the-auditors-own-token")
	page.waitUntil(t, `all("#token-button")[0] === "Token: auditor" && all("#users tbody .key").join() === "alice"`)
	page.act(t, "#topics tr[data-key=news]", "history")
	page.waitUntil(t, `all("#history-list .text").join() === "kept"`)
	page.Click(t, "#history-dialog [value=retained]")
	page.waitUntil(t, `all("#history-list .text").join() === "kept" && getComputedStyle(document.querySelector("#history-list .clear")).display === "none"`)
	page.Click(t, "#history-close")
	page.waitUntil(t, `[...document.querySelectorAll(".actions [data-act]:not([data-act=history], [data-act=subscribers]), #history-clear")].every((button) => getComputedStyle(button).display === "none")`)

	page.Click(t, "#token-button")
	use("the-operators-own-token")
	page.waitUntil(t, `all("#state", "#token-button").join() === "Serving,Token: ops" && all(".denied").join("") === ""`)
	page.waitUntil(t, `all("#tail-state")[0] === "following"`)
	page.Click(t, "#token-button")
	page.Click(t, "#token-forget")
	page.waitUntil(t, `document.getElementById("token-dialog").open`)
	page.wantQuiet(t, "401 (Unauthorized)", "403 (Forbidden)")
}

// testConsoleReconnects keeps the page open across a restart of the daemon.
func testConsoleReconnects(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.SSE.MaxConnections = 1 })
	page := openConsole(t, b, d)
	page.waitUntil(t, `all("#state")[0] === "Serving"`)
	page.waitUntil(t, `all("#tail-state")[0] === "following"`)
	listen(t, d, "alice", "news")
	page.waitUntil(t, `all("#state")[0] === "Full" && all("#trouble")[0].includes("limit of streams")`)
	d.Stop(t)
	page.waitUntil(t, `all("#state")[0] === "Unreachable" && all("#tail-state")[0].startsWith("disconnected")`)

	again := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.REST.Addr = d.REST })
	page.waitUntil(t, `all("#state")[0] === "Serving" && all("#tail-state")[0] === "following"`)

	if _, err := again.Control(t).Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "restarted"}); err != nil {
		t.Fatal(err)
	}

	page.waitUntil(t, `all("#tail-list .text")[0] === "restarted" && all("#tail-list .gap .text")[0].includes("daemon restarted")`)
	page.wantQuiet(t, "ERR_CONNECTION_REFUSED", "503 (Service Unavailable)", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
}

// TestConsoleCallsFromOtherOrigins calls the control plane as a page from another
// origin would.
func TestConsoleCallsFromOtherOrigins(t *testing.T) {
	d := pealdtest.Start(t)
	listen(t, d, "alice")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.URL("/v1/users/alice:disconnect"), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}

	request.Header.Set("Origin", "https://evil.example")

	reply, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}

	_ = reply.Body.Close()

	if reply.StatusCode != http.StatusForbidden {
		t.Errorf("status %s, want 403", reply.Status)
	}

	d.WaitForStreams(t, 1)
}
