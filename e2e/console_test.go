package e2e_test

import (
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
	p.waitUntil(t, `window.light = [...document.querySelectorAll(".plot canvas")].map((canvas) => canvas.toDataURL())`)

	prefer("dark")
	p.waitUntil(t, "!"+bright)
	p.waitUntil(t, `[...document.querySelectorAll(".plot canvas")].every((canvas, i) => canvas.toDataURL() !== window.light[i])`)

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
