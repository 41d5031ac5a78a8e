package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// TestConsole shows the console in one browser, whose start takes longer than
// most of what it is for.
func TestConsole(t *testing.T) {
	chromium := startChromium(t)

	t.Run("an operator", func(t *testing.T) { testConsoleInUse(t, chromium) })
	t.Run("tokens", func(t *testing.T) { testConsoleAsksForAToken(t, chromium) })
	t.Run("a daemon that goes and comes back", func(t *testing.T) { testConsoleComesBack(t, chromium) })
	t.Run("nodes of a cluster", func(t *testing.T) { testConsoleShowsNodes(t, chromium) })
}

// testConsoleShowsNodes looks at a daemon that is a cluster of one.
func testConsoleShowsNodes(t *testing.T, chromium chromium) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Cluster.Mode, cfg.Cluster.Dir = daemon.ClusterEmbedded, t.TempDir()
	})
	d.WaitUntilReady(t)
	page := openConsole(t, chromium, d)
	page.waitUntil(t, `!document.getElementById("cluster").hidden && all("#nodes tr").length === 1`)
	page.waitUntil(t, `all("#nodes tr")[0].includes("(this one)") && all("#nodes tr")[0].includes("serving") && all("#nodes tr")[0].includes("leads")`)
	page.waitUntil(t, `all("#shards th")[0].endsWith("/0")`)
	page.wantQuiet(t)
}

// testConsoleInUse does what an operator does: looks at the charts, finds a
// user, publishes, follows what is published, and ends streams.
func testConsoleInUse(t *testing.T, chromium chromium) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.SSE.Retry = time.Minute })
	page := openConsole(t, chromium, d)

	t.Run("it says what to do first", func(t *testing.T) {
		page.waitUntil(t, `!document.getElementById("hint").hidden && all("#hint code")[0].includes(`+jsonOf(t, d.Events(t, ""))+`)`)
		page.waitUntil(t, `all("#hint code")[1].includes("/v1/broadcast") && all("#state")[0] === "Serving"`)
		page.waitUntil(t, `all("#about")[0].startsWith("test · up ")`)
	})

	for i := range 25 {
		listen(t, d, fmt.Sprintf("user-%02d", i), "orders.*")
	}

	alice := listen(t, d, "alice", "orders.*", "news")
	listen(t, d, "alice")
	nobody := listen(t, d, "")
	d.WaitForStreams(t, 28)

	t.Run("charts move while events flow", func(t *testing.T) { page.testCharts(t, d) })
	t.Run("lists are searched and paged", func(t *testing.T) { page.testLists(t) })
	t.Run("what is published reaches streams", func(t *testing.T) { page.testPublish(t, alice, nobody) })
	t.Run("by the keyboard alone", func(t *testing.T) { page.testKeyboard(t, alice) })
	t.Run("the tail", func(t *testing.T) { page.testTail(t, d) })
	t.Run("disconnect", func(t *testing.T) { page.testDisconnect(t, d) })
	t.Run("dark and light", func(t *testing.T) { page.testColours(t) })
	t.Run("nothing sticks out", func(t *testing.T) { page.testWidths(t) })
	t.Run("all has a name", func(t *testing.T) { page.testNames(t) })
	page.wantQuiet(t, "400 (Bad Request)") // what was wrong on purpose
}

// consolePage is a tab that shows the console.
type consolePage struct {
	demoPage

	said *said
}

// said is what the page wrote to the browser's console, failures of its policy
// among it.
type said struct {
	mu       sync.Mutex
	messages []string
}

func openConsole(t *testing.T, chromium chromium, d *pealdtest.Daemon) consolePage {
	t.Helper()

	page := consolePage{demoPage{chromium.newTab(t, 4*patience)}, &said{}}
	ctx, cancel := context.WithCancel(page.ctx)
	messages := chromedp.Console(ctx)

	var reading sync.WaitGroup

	reading.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}

			if m.Type != chromedp.ConsoleLog && m.Type != chromedp.ConsoleInfo && m.Type != chromedp.ConsoleDebug {
				page.said.mu.Lock()
				page.said.messages = append(page.said.messages, m.String())
				page.said.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
	})

	if err := chromedp.Do(page.ctx, chromedp.EmulateViewport(1440, 1200), chromedp.Navigate(d.URL("/"))); err != nil {
		t.Fatal(err)
	}

	return page
}

// wantQuiet fails for what the page has written to the browser's console, but
// for lines that hold one of those expected.
func (p consolePage) wantQuiet(t *testing.T, expected ...string) {
	t.Helper()
	p.said.mu.Lock()
	defer p.said.mu.Unlock()

	for _, message := range p.said.messages {
		if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(message, part) }) {
			t.Errorf("the browser's console has %s", message)
		}
	}
}

func (p consolePage) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()

	if err := chromedp.Do(p.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func (p consolePage) click(t *testing.T, selector string) {
	t.Helper()
	p.do(t, chromedp.Click(chromedp.CSS(selector)))
}

// fill puts text into a field, in the place of what is there.
func (p consolePage) fill(t *testing.T, selector, text string) {
	t.Helper()
	p.waitUntil(t, `(document.querySelector(`+jsonOf(t, selector)+`).select(), true)`)
	p.do(t, chromedp.SendKeys(chromedp.CSS(selector), kb.Backspace+text))
}

// plotted is what each chart shows, as a picture.
func (p consolePage) plotted(t *testing.T) []string {
	t.Helper()

	drawn, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".plot canvas")].map((canvas) => canvas.toDataURL())`))
	if err != nil {
		t.Fatal(err)
	}

	return drawn
}

func (p consolePage) testCharts(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()
	p.waitUntil(t, `all("#charts .reading strong")[0] === "28"`)
	before := p.plotted(t)

	if len(before) != 4 {
		t.Fatalf("%d charts are plotted, want 4", len(before))
	}

	control := d.Control(t)
	ctx, stop := context.WithCancel(t.Context())

	var publishing sync.WaitGroup

	publishing.Go(func() {
		for again := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
				_, _ = control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: "tick"})
			}
		}
	})
	// Deliveries, and the latency of half and of most of them.
	p.waitUntil(t, `Number(all("#charts .reading strong")[1].replaceAll(",", "")) > 100`)
	p.waitUntil(t, `all("#charts .reading strong").slice(2, 4).every((text) => / (µs|ms|s)$/.test(text))`)

	after := p.plotted(t)
	stop()
	publishing.Wait()

	for i, name := range []string{"streams", "deliveries", "latency"} {
		if before[i] == after[i] {
			t.Errorf("the chart of %s shows the same after as before", name)
		}
	}

	p.waitUntil(t, `document.querySelectorAll(".plot")[1].ariaLabel.startsWith("Deliveries a second: now ")`)
	p.click(t, "#as-table")
	p.waitUntil(t, `all("#samples-head th").join() === "Time,Streams,Deliveries a second,Latency p50,Latency p99,Drops a second"`)
	p.waitUntil(t, `all("#samples-rows tr:first-child td")[0] === "28" && document.getElementById("charts").hidden`)
	p.click(t, "#as-table")
	p.waitUntil(t, `document.getElementById("samples").hidden`)
}

func (p consolePage) testLists(t *testing.T) {
	t.Helper()
	p.waitUntil(t, `all("#users tbody .key").join() === ["alice", ...Array.from({ length: 9 }, (_, i) => "user-0" + i)].join()`)
	p.waitUntil(t, `all("#users tbody .number")[0] === "2" && all("#users .found")[0] === "1 to 10, and more"`)
	p.waitUntil(t, `all("#topics tbody tr .key").join() === "news,orders.*" && all("#topics tbody .number").join() === "1,26"`)
	p.click(t, "#users .next")
	p.waitUntil(t, `all("#users tbody .key")[0] === "user-09" && all("#users .found")[0] === "11 to 20, and more"`)
	p.click(t, "#users .next")
	p.waitUntil(t, `all("#users tbody .key").length === 6 && document.querySelector("#users .next").disabled`)
	p.click(t, "#users .previous")
	p.waitUntil(t, `all("#users .found")[0] === "11 to 20, and more"`)
	p.fill(t, "#users-search", "user-2")
	p.waitUntil(t, `all("#users tbody .key").join() === "user-20,user-21,user-22,user-23,user-24" && all("#users .found")[0] === "1 to 5"`)
	p.fill(t, "#users-search", "zoë")
	p.waitUntil(t, `all("#users .empty")[0] === "None begins with “zoë”." && all("#users .found")[0] === "none"`)
	p.fill(t, "#topics-search", "o")
	p.waitUntil(t, `all("#topics tbody .key").join() === "orders.*"`)
	p.fill(t, "#topics-search", "")
	p.fill(t, "#users-search", "")
	p.waitUntil(t, `all("#users tbody .key")[0] === "alice"`)
}

func (p consolePage) testPublish(t *testing.T, alice, nobody *listener) {
	t.Helper()

	const text = "<b>an alle</b>: \"Grüße\""

	p.fill(t, "#publish-data", text)
	p.click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `/^Sent to 28 streams as \w+-\d+$/.test(all("#publish-result")[0])`)
	alice.waitFor(t, "event: broadcast\ndata: "+text+"\n")
	nobody.waitFor(t, "event: broadcast\ndata: "+text+"\n")

	// By a row's button.
	p.click(t, "#users tbody tr[data-key=alice] [data-act=send]")
	p.waitUntil(t, `document.activeElement.id === "publish-data" && document.getElementById("publish-target").value === "alice"`)
	p.fill(t, "#publish-event", "greeting")
	p.fill(t, "#publish-data", "for alice")
	p.click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 2 streams as ")`)
	alice.waitFor(t, "event: greeting\ndata: for alice\n")

	p.click(t, "#topics tbody tr[data-key=news] [data-act=send]")
	p.fill(t, "#publish-event", "")
	p.fill(t, "#publish-data", "the news")
	p.click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 1 stream as ")`)
	alice.waitFor(t, "event: topic\ndata: the news\n")

	// What is wrong is said where it is.
	p.fill(t, "#publish-event", "peald.reset")
	p.click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-event-problem")[0].includes("the daemon's own") && document.activeElement.ariaInvalid === "true" && all("#publish-result")[0] === ""`)
	p.fill(t, "#publish-event", "")
	p.fill(t, "#publish-data", "")
	p.click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-data-problem")[0].startsWith("data is empty") && all("#publish-event-problem")[0] === ""`)
	p.fill(t, "#publish-target", "orders.*")
	p.fill(t, "#publish-data", "x")
	p.click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-target-problem")[0].includes("is the pattern")`)
}

// testKeyboard goes to the form and through it with Tab, and sends with Enter.
func (p consolePage) testKeyboard(t *testing.T, alice *listener) {
	t.Helper()
	p.do(t, chromedp.Reload())
	p.waitUntil(t, `all("#users tbody .key")[0] === "alice"`)

	tabTo := func(id string) {
		t.Helper()

		for range 80 {
			p.do(t, chromedp.KeyEvent(kb.Tab))

			at, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.activeElement.id || document.activeElement.name + "=" + document.activeElement.value || ""`))
			if err != nil {
				t.Fatal(err)
			}

			if at == id {
				return
			}
		}

		t.Fatalf("Tab never comes to %s", id)
	}

	tabTo("to=everyone")
	p.do(t, chromedp.KeyEvent(kb.ArrowRight))
	p.waitUntil(t, `document.activeElement.value === "user" && !document.getElementById("publish-target-field").hidden`)
	tabTo("publish-target")
	p.do(t, chromedp.KeyEvent("alice"))
	tabTo("publish-event")
	p.do(t, chromedp.KeyEvent("typed"))
	tabTo("publish-data")
	p.do(t, chromedp.KeyEvent("by hand"))
	p.do(t, chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 2 streams as ")`)
	alice.waitFor(t, "event: typed\ndata: by hand\n")
}

func (p consolePage) testTail(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()

	control := d.Control(t)

	p.click(t, "#tail-toggle")
	p.waitUntil(t, `all("#tail-state")[0] === "following"`)

	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "<i>to all</i>", Event: "notice"}); err != nil {
		t.Fatal(err)
	}

	p.waitUntil(t, `all("#tail-list .badge").join() === "notice · to everybody" && all("#tail-list .text").join() === "<i>to all</i>"`)
	p.waitUntil(t, `all("#tail-list .recipients").join() === "28 streams ·"`)

	sendTo(t, d, "user-07", "to one")
	p.waitUntil(t, `all("#tail-list .badge")[0] === "individual · to user user-07"`)
	d.WaitForStreams(t, 28) // a tail is none of them

	// Another audience begins anew.
	p.click(t, "#topics tbody tr[data-key='orders.*'] [data-act=tail]")
	p.waitUntil(t, `all("#tail-state")[0] === "following" && document.getElementById("tail-target").value === "orders.*"`)

	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "not followed"}); err != nil {
		t.Fatal(err)
	}

	if _, err := control.Publish(t.Context(), &pealv1.PublishRequest{Topic: "orders.7", Data: "paid"}); err != nil {
		t.Fatal(err)
	}

	p.waitUntil(t, `all("#tail-list .badge")[0] === "topic · to topic orders.7" && !all("#tail-list .text").includes("not followed")`)
	p.click(t, "#tail-pause")

	if _, err := control.Publish(t.Context(), &pealv1.PublishRequest{Topic: "orders.8", Data: "meanwhile"}); err != nil {
		t.Fatal(err)
	}

	p.waitUntil(t, `all("#tail-pause")[0] === "Resume (1 new)" && !all("#tail-list .text").includes("meanwhile")`)
	p.click(t, "#tail-pause")
	p.waitUntil(t, `all("#tail-list .text")[0] === "meanwhile"`)
	p.click(t, "#tail-toggle")
	p.click(t, "#tail-clear")
	p.waitUntil(t, `all("#tail-toggle", "#tail-state").join() === "Follow," && all("#tail-list li").length === 0`)
}

func (p consolePage) testDisconnect(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()
	p.fill(t, "#users-search", "user-03")
	p.waitUntil(t, `all("#users tbody .key").join() === "user-03"`)
	p.click(t, "#users tbody [data-act=disconnect]")
	p.waitUntil(t, `document.getElementById("disconnect-dialog").open && all("#disconnect-user")[0] === "user-03"`)
	// The way back is what Enter takes.
	p.waitUntil(t, `document.activeElement.id === "disconnect-no"`)
	p.click(t, "#disconnect-no")
	p.waitUntil(t, `!document.getElementById("disconnect-dialog").open && document.activeElement.dataset.act === "disconnect"`)
	p.click(t, "#users tbody [data-act=disconnect]")
	p.waitUntil(t, `(document.getElementById("disconnect-for").value = "3600s", true)`)
	p.click(t, "#disconnect-yes")
	p.waitUntil(t, `all("#announce")[0] === "1 stream of user-03 ended." && all("#users tbody .key").length === 0`)
	d.WaitForStreams(t, 27)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.Events(t, "user-03"), nil)
	if err != nil {
		t.Fatal(err)
	}

	request.Header.Set("Accept", "text/event-stream")

	reply, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}

	_ = reply.Body.Close()

	if reply.StatusCode != http.StatusNoContent {
		t.Errorf("a user who is to stay away is answered %s", reply.Status)
	}

	p.fill(t, "#users-search", "")
}

// testColours looks at what the page and its charts are drawn in.
func (p consolePage) testColours(t *testing.T) {
	t.Helper()

	const bright = `((rgb) => rgb[0] + rgb[1] + rgb[2] > 384)(getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number))`

	prefer := func(scheme string) {
		t.Helper()

		_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	prefer("light")
	p.waitUntil(t, bright)
	light := p.plotted(t)

	prefer("dark")
	p.waitUntil(t, "!"+bright)

	for i, dark := range p.plotted(t) {
		if dark == light[i] {
			t.Errorf("chart %d is the same in the dark", i)
		}
	}

	p.click(t, "#theme [value=light]")
	p.waitUntil(t, bright)
	p.do(t, chromedp.Reload())
	p.waitUntil(t, bright+` && document.querySelector("#theme [value=light]").checked`)
	prefer("light")
	p.click(t, "#theme [value=dark]")
	p.waitUntil(t, "!"+bright)
	p.click(t, "#theme [value=auto]")
	p.waitUntil(t, bright)
}

// testNames asks the browser what it tells a screen reader.
func (p consolePage) testNames(t *testing.T) {
	t.Helper()
	p.waitUntil(t, `all("#users tbody tr").length === 10`)

	tree, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}

	count := map[string]int{}

	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}

		role := strings.Trim(string(node.Role.Value), `"`)
		count[role]++

		named := node.Name != nil && strings.Trim(string(node.Name.Value), `" `) != ""
		if slices.Contains([]string{"button", "textbox", "searchbox", "combobox", "radio", "link", "image", "img", "table", "dialog", "group", "region"}, role) && !named {
			t.Errorf("a %s has no name: %v", role, node.Properties)
		}
	}

	for role, least := range map[string]int{"banner": 1, "main": 1, "button": 30, "radio": 9, "searchbox": 2, "table": 3, "region": 6, "heading": 7, "status": 3} {
		if count[role] < least {
			t.Errorf("%d of role %s, want %d or more: %v", count[role], role, least, count)
		}
	}
}

// testConsoleAsksForAToken shows what a caller may do, and what not.
func testConsoleAsksForAToken(t *testing.T, chromium chromium) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Control.Tokens = []daemon.Token{
			{Name: "ops", Token: "the-operators-own-token"},
			{Name: "reader", Token: "the-readers-own-token", Scopes: []string{"read"}},
			{Name: "shop", Token: "the-shops-own-token", Scopes: []string{"publish"}},
		}
	})
	listen(t, d, "alice")
	page := openConsole(t, chromium, d)
	use := func(token string) {
		t.Helper()
		page.fill(t, "#token", token)
		page.do(t, chromedp.KeyEvent(kb.Enter))
	}

	page.waitUntil(t, `document.getElementById("token-dialog").open && document.activeElement.id === "token" && all("#state")[0] === "Token needed"`)
	page.click(t, "#token-close")
	page.waitUntil(t, `!document.getElementById("token-dialog").open`)
	page.click(t, "#token-button")
	use("a guess")
	page.waitUntil(t, `all("#token-problem")[0].includes("none of control.tokens")`)
	use("the-readers-own-token")
	page.waitUntil(t, `!document.getElementById("token-dialog").open && all("#state", "#token-button").join() === "Serving,Token: reader"`)
	page.waitUntil(t, `all("#users tbody .key").join() === "alice"`)
	page.waitUntil(t, `all("#publish .denied", "#tail .denied").every((text) => /scope (publish|admin)/.test(text)) && document.querySelector("#publish [type=submit]").disabled`)
	page.waitUntil(t, `[...document.querySelectorAll("#users .actions button")].every((button) => getComputedStyle(button).display === "none")`)

	// It lasts as long as the tab, and no longer.
	page.do(t, chromedp.Reload())
	page.waitUntil(t, `all("#users tbody .key").join() === "alice" && localStorage.getItem("control-token") === null && document.cookie === ""`)

	page.click(t, "#token-button")
	page.waitUntil(t, `all("#token-scopes")[0].includes("“reader” is good for read")`)
	use("the-shops-own-token")
	page.waitUntil(t, `all("#state")[0] === "Not allowed" && all("#users .denied")[0].includes("scope read") && !document.querySelector("#publish [type=submit]").disabled`)
	page.fill(t, "#publish-data", "from the shop")
	page.click(t, "#publish-form [type=submit]")
	page.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 1 stream as ")`)

	page.click(t, "#token-button")
	use("the-operators-own-token")
	page.waitUntil(t, `all("#state", "#token-button").join() === "Serving,Token: ops" && all(".denied").join("") === ""`)
	page.click(t, "#tail-toggle")
	page.waitUntil(t, `all("#tail-state")[0] === "following"`)
	page.click(t, "#token-button")
	page.click(t, "#token-forget")
	page.waitUntil(t, `document.getElementById("token-dialog").open`)
	page.wantQuiet(t, "401 (Unauthorized)", "403 (Forbidden)")
}

// testConsoleComesBack leaves the page open while the daemon goes.
func testConsoleComesBack(t *testing.T, chromium chromium) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.SSE.MaxConnections = 1 })
	page := openConsole(t, chromium, d)
	page.waitUntil(t, `all("#state")[0] === "Serving"`)
	page.click(t, "#tail-toggle")
	page.waitUntil(t, `all("#tail-state")[0] === "following"`)
	listen(t, d, "alice")
	page.waitUntil(t, `all("#state")[0] === "Full" && all("#trouble")[0].startsWith("Every stream")`)
	d.Stop(t)
	page.waitUntil(t, `all("#state")[0] === "Unreachable" && all("#tail-state")[0].startsWith("cut off")`)

	again := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.REST.Addr = d.REST })
	page.waitUntil(t, `all("#state")[0] === "Serving" && all("#tail-state")[0] === "following"`)

	if _, err := again.Control(t).Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "anew"}); err != nil {
		t.Fatal(err)
	}

	page.waitUntil(t, `all("#tail-list .text")[0] === "anew" && all("#tail-list .gap .text")[0].includes("started anew")`)
	page.wantQuiet(t, "ERR_CONNECTION_REFUSED", "503 (Service Unavailable)", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
}

// TestOtherPagesCannotUseTheConsolesCalls asks as a page of another origin.
func TestOtherPagesCannotUseTheConsolesCalls(t *testing.T) {
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
		t.Errorf("answered %s", reply.Status)
	}

	d.WaitForStreams(t, 1)
}

// listener holds a stream and keeps what it gets.
type listener struct {
	mu    sync.Mutex
	text  strings.Builder
	grown chan struct{}
}

// listen opens a stream that lasts as long as the test.
func listen(t *testing.T, d *pealdtest.Daemon, user string, topics ...string) *listener {
	t.Helper()

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))

	var subscribe []string
	for _, topic := range topics {
		subscribe = append(subscribe, "topic", topic)
	}

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, with(d.Events(t, ""), subscribe...), nil)
	if err != nil {
		t.Fatal(err)
	}

	if user != "" {
		reply, err := d.Control(t).CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: user, Topics: topics})
		if err != nil {
			t.Fatal(err)
		}

		request.Header.Set("Authorization", "Bearer "+reply.GetToken())
	}

	transport := &http.Transport{}

	reply, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}

	if reply.StatusCode != http.StatusOK {
		t.Fatalf("a stream of %q is answered %s", user, reply.Status)
	}

	l := &listener{grown: make(chan struct{}, 1)}

	var reading sync.WaitGroup

	reading.Go(func() {
		defer func() { _ = reply.Body.Close() }()

		for lines := bufio.NewScanner(reply.Body); lines.Scan(); {
			l.mu.Lock()
			l.text.WriteString(lines.Text() + "\n")
			l.mu.Unlock()

			select {
			case l.grown <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		transport.CloseIdleConnections()
	})

	return l
}

// waitFor returns once the stream has had text.
func (l *listener) waitFor(t *testing.T, text string) {
	t.Helper()

	for {
		l.mu.Lock()
		got := l.text.String()
		l.mu.Unlock()

		if strings.Contains(got, text) {
			return
		}

		select {
		case <-l.grown:
		case <-time.After(patience):
			t.Fatalf("%q never came, only %q", text, got)
		}
	}
}

// testWidths holds that nothing is wider than what it is in, as narrow as a
// window may be.
func (p consolePage) testWidths(t *testing.T) {
	t.Helper()

	for _, width := range []int64{1280, 1440, 900, 390} {
		p.do(t, chromedp.EmulateViewport(width, 1200))
		p.waitUntil(t, `document.documentElement.scrollWidth <= innerWidth`)
		p.waitUntil(t, `[...document.querySelectorAll("#users .actions button")].length > 0 &&
			[...document.querySelectorAll(".rows")].every((rows) => rows.getBoundingClientRect().right <= rows.closest(".card").getBoundingClientRect().right)`)
	}

	p.do(t, chromedp.EmulateViewport(1440, 1200))
}
