package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// TestConsole uses the console in every browser. Firefox and WebKit draw slowly: only with
// SOAK, they also run the test that opens every part of the page.
func TestConsole(t *testing.T) {
	t.Parallel()
	browsertest.Each(t, testConsole)
}

func testConsole(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	if b.Kind == browsertest.Chromium || soaking() {
		t.Run("operator", func(t *testing.T) { testConsoleInUse(t, b) })
	}

	// Browsers may differ in how they fail calls and restore forms. Firefox and
	// WebKit each take one of the smaller tests.
	if b.Kind != browsertest.WebKit {
		t.Run("tokens", func(t *testing.T) { testConsoleAsksForAToken(t, b) })
	}
	if b.Kind != browsertest.Firefox {
		t.Run("daemon restarts", func(t *testing.T) { testConsoleReconnects(t, b) })
	}
	if b.Kind == browsertest.Chromium {
		t.Run("cluster nodes", func(t *testing.T) { testConsoleNodes(t, b) })
	}
}

// testConsoleNodes checks the tables of nodes and sources of a single-node cluster.
func testConsoleNodes(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Cluster.Mode, cfg.Cluster.Dir = daemon.ClusterEmbedded, t.TempDir()
		cfg.Sources = []daemon.Source{{Name: "outbox", Postgres: &daemon.PostgresSource{URL: "postgres://127.0.0.1:1/nowhere"}}}
	})
	d.WaitUntilReady(t)
	page := openConsole(t, b, d)
	page.waitUntil(t, `!document.getElementById("cluster").hidden && all("#nodes tr").length === 1`)
	page.waitUntil(t, `all("#nodes tr")[0].includes("(this node)") && all("#nodes tr")[0].includes("serving") && all("#nodes tr")[0].includes("leader")`)
	page.waitUntil(t, `all("#shards th")[0].endsWith("/0")`)
	page.waitUntil(t, `!document.getElementById("source-list").hidden && all("#sources tr").length === 1 && all("#sources th")[0] === "outbox (postgres)"`)
	page.waitUntil(t, `all("#sources td")[1] === "failed" && all("#sources td")[6].includes("connection refused")`)
	page.wantQuiet(t)
}

// testConsoleInUse uses the console as an operator does: it reads the charts,
// finds a user, publishes, follows messages and disconnects streams.
func testConsoleInUse(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.SSE.Retry = time.Minute
		cfg.Auth.AnonymousTopics = []string{"news"}
	})
	page := openConsole(t, b, d)

	t.Run("hint without streams", func(t *testing.T) {
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

	t.Run("charts", func(t *testing.T) { page.testCharts(t, d) })
	t.Run("lists", func(t *testing.T) { page.testLists(t) })
	t.Run("subscribers", func(t *testing.T) { page.testSubscribers(t, d) })
	t.Run("tail", func(t *testing.T) { page.testTail(t, d) })
	t.Run("publish", func(t *testing.T) { page.testPublish(t, alice, nobody) })
	t.Run("several topics", func(t *testing.T) { page.testSeveralTopics(t, alice) })
	t.Run("history", func(t *testing.T) { page.testHistory(t, d) })
	t.Run("retained", func(t *testing.T) { page.testRetained(t) })
	t.Run("keyboard", func(t *testing.T) { page.testKeyboard(t, d, alice) })
	t.Run("disconnect", func(t *testing.T) { page.testDisconnect(t, d) })
	t.Run("themes", func(t *testing.T) { page.testColours(t) })
	t.Run("layout", func(t *testing.T) { page.testLayout(t, b.Kind) })

	if b.Kind == browsertest.Chromium {
		page.Resize(t, 1440, 1200)
		t.Run("system theme", func(t *testing.T) { page.testSystemColours(t) })
		t.Run("accessible names", func(t *testing.T) { page.testNames(t) })
	}

	page.wantQuiet(t, "400 (Bad Request)") // the invalid messages
}

func (p consolePage) testCharts(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()
	p.waitUntil(t, `all("#charts .reading strong")[0] === "28"`)
	before := p.plotted(t)

	if len(before) != 4 {
		t.Fatalf("%d charts, want 4", len(before))
	}

	control := d.Control(t)
	ctx, stop := context.WithCancel(t.Context())

	var publishing sync.WaitGroup

	publishing.Go(func() {
		for again := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
				_, _ = control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: "tick"})
			}
		}
	})
	// Deliveries, and their median and 99th percentile of latency.
	p.waitUntil(t, `Number(all("#charts .reading strong")[1].replaceAll(",", "")) > 100`)
	p.waitUntil(t, `all("#charts .reading strong").slice(2, 4).every((text) => / (µs|ms|s)$/.test(text))`)

	after := p.plotted(t)
	stop()
	publishing.Wait()

	for i, name := range []string{"streams", "deliveries", "latency"} {
		if before[i] == after[i] {
			t.Errorf("the chart for %s hasn't changed", name)
		}
	}

	p.waitUntil(t, `document.querySelectorAll(".plot")[1].ariaLabel.startsWith("Deliveries per second: now ")`)
	p.Click(t, "#as-table")
	p.waitUntil(t, `all("#samples-head th").join() === "Time,Streams,Deliveries per second,Latency p50,Latency p99,Drops per second"`)
	p.waitUntil(t, `all("#samples-rows tr:first-child td")[0] === "28" && document.getElementById("charts").hidden`)
	p.Click(t, "#as-table")
	p.waitUntil(t, `document.getElementById("samples").hidden`)
}

func (p consolePage) testLists(t *testing.T) {
	t.Helper()
	p.waitUntil(t, `all("#users tbody .key").join() === ["alice", ...Array.from({ length: 9 }, (_, i) => "user-0" + i)].join()`)
	p.waitUntil(t, `all("#users tbody .number")[0] === "2" && all("#users .found")[0] === "1 to 10, more available"`)
	p.waitUntil(t, `all("#topics tbody tr .key").join() === "news,orders.*" && all("#topics tbody .number").join() === "1,26"`)
	p.Click(t, "#users .next")
	p.waitUntil(t, `all("#users tbody .key")[0] === "user-09" && all("#users .found")[0] === "11 to 20, more available"`)
	p.Click(t, "#users .next")
	p.waitUntil(t, `all("#users tbody .key").length === 6 && document.querySelector("#users .next").disabled`)
	p.Click(t, "#users .previous")
	p.waitUntil(t, `all("#users .found")[0] === "11 to 20, more available"`)
	p.Fill(t, "#users-search", "user-2")
	p.waitUntil(t, `all("#users tbody .key").join() === "user-20,user-21,user-22,user-23,user-24" && all("#users .found")[0] === "1 to 5"`)
	p.Fill(t, "#users-search", "zoë")
	p.waitUntil(t, `all("#users .empty")[0] === "No match for “zoë”" && all("#users .found")[0] === "none"`)
	p.Fill(t, "#topics-search", "o")
	p.waitUntil(t, `all("#topics tbody .key").join() === "orders.*"`)
	p.Fill(t, "#topics-search", "")
	p.Fill(t, "#users-search", "")
	p.waitUntil(t, `all("#users tbody .key")[0] === "alice"`)
}

func (p consolePage) testPublish(t *testing.T, alice, nobody *listener) {
	t.Helper()

	const text = "<b>an alle</b>: \"Grüße\""

	p.Fill(t, "#publish-data", text)
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `/^Sent to 28 streams as \w+-\d+$/.test(all("#publish-result")[0])`)
	alice.waitFor(t, "event: broadcast\ndata: "+text+"\n")
	nobody.waitFor(t, "event: broadcast\ndata: "+text+"\n")

	// A row's button prepares the form.
	p.act(t, "#users tr[data-key=alice]", "send")
	p.waitUntil(t, `document.activeElement.id === "publish-data" && document.getElementById("publish-target").value === "alice"`)
	p.Fill(t, "#publish-event", "greeting")
	p.Fill(t, "#publish-data", "for alice")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 2 streams as ")`)
	alice.waitFor(t, "event: greeting\ndata: for alice\n")

	p.act(t, "#topics tr[data-key=news]", "send")
	p.Fill(t, "#publish-event", "")
	p.Fill(t, "#publish-data", "the news")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 1 stream as ")`)
	alice.waitFor(t, "event: topic\ndata: the news\n")

	// Errors appear below their fields and don't touch the focus ring.
	p.Fill(t, "#publish-event", "peald.reset")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-event-problem")[0].includes("reserved") && document.activeElement.ariaInvalid === "true" && all("#publish-result")[0] === ""`)
	p.waitUntil(t, `document.querySelector("#publish-event-problem").getBoundingClientRect().top - document.querySelector("#publish-event").getBoundingClientRect().bottom > 6`)
	p.Fill(t, "#publish-event", "")
	p.Fill(t, "#publish-data", "")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-data-problem")[0].startsWith("data is empty") && all("#publish-event-problem")[0] === ""`)
	p.Fill(t, "#publish-target", "orders.*")
	p.Fill(t, "#publish-data", "x")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-target-problem")[0].includes("is the pattern")`)
}

// testHistory shows what the history holds for a topic, in pages.
func (p consolePage) testHistory(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()

	const published = 25
	for i := range published {
		if _, err := d.Control(t).Publish(t.Context(), &pealv1.PublishRequest{Topic: "news", Data: fmt.Sprint("news ", i), Retain: i == published-1}); err != nil {
			t.Fatal(err)
		}
	}

	p.act(t, "#topics tr[data-key=news]", "history")
	p.waitUntil(t, `document.getElementById("history-dialog").open && all("#history-title")[0] === "History of news"`)
	p.waitUntil(t, `all("#history-list .text").length === 20 && all("#history-list .text")[0] === "news 24"`)
	p.waitUntil(t, `all("#history-list .badge")[0] === "topic" && all("#history-list .id")[0].includes("-") && all("#history-state")[0].startsWith("20 shown")`)
	p.Click(t, "#history-older")
	p.waitUntil(t, `all("#history-list .text").slice(24).join() === "news 0,the news" && document.getElementById("history-older").hidden`)
	p.Click(t, "#history-dialog [value=retained]")
	p.waitUntil(t, `all("#history-list .text").join() === "news 24" && all("#history-state")[0] === "1 shown, newest first" && all("#history-title")[0] === "Retained values of news"`)
	p.Click(t, "#history-close")
	// The event that clears the list follows later than the dialog closes.
	p.waitUntil(t, `!document.getElementById("history-dialog").open && all("#history-list li").length === 0`)
	p.waitUntil(t, `document.querySelector("#topics tr[data-key='orders.*'] [data-act=history]").hidden`)

	p.act(t, "#topics tr[data-key=news]", "history")
	p.waitUntil(t, `all("#history-list .text").length === 20`)
	if _, err := d.Control(t).Publish(t.Context(), &pealv1.PublishRequest{Topic: "news", Data: "<b>late</b>"}); err != nil {
		t.Fatal(err)
	}
	p.Click(t, "#history-refresh")
	p.waitUntil(t, `all("#history-list .text").length === 20 && all("#history-list .text")[0] === "<b>late</b>"`)
	p.Press(t, browsertest.KeyEscape)
	p.waitUntil(t, `!document.getElementById("history-dialog").open && all("#history-list li").length === 0`)

	p.act(t, "#users tr[data-key=alice]", "history")
	p.waitUntil(t, `all("#history-title")[0] === "History of user alice" && all("#history-list .text").join() === "for alice"`)

	// The event of a closed dialog follows after the dialog is open again.
	p.Await(t, `new Promise((resolve) => {
		document.getElementById("history-dialog").addEventListener("close", () => setTimeout(resolve), { once: true });
		document.getElementById("history-close").click();
		document.querySelector("#topics tr[data-key=news] [data-act=history]").click();
	})`, nil)
	p.waitUntil(t, `all("#history-list .text").length === 20`)
	p.Press(t, browsertest.KeyEscape)
	p.waitUntil(t, `!document.getElementById("history-dialog").open && all("#history-list li").length === 0`)
}

// testKeyboard uses only the keyboard to fill in the form and publish.
func (p consolePage) testKeyboard(t *testing.T, d *pealdtest.Daemon, alice *listener) {
	t.Helper()
	p.Open(t, d.URL("/")) // in Firefox, a reload would keep the contents of the form
	p.waitUntil(t, `all("#users tbody .key")[0] === "alice"`)

	tabTo := func(id string) {
		t.Helper()

		for range 80 {
			p.Press(t, browsertest.KeyTab)

			var at string

			p.Eval(t, `document.activeElement.id || document.activeElement.name + "=" + document.activeElement.value`, &at)

			if at == id {
				return
			}
		}

		t.Fatalf("Tab never reaches %s", id)
	}

	tabTo("to=everyone")
	p.Press(t, browsertest.KeyRight)
	p.waitUntil(t, `document.activeElement.value === "user" && !document.getElementById("publish-target-field").hidden`)
	tabTo("publish-target")
	p.Press(t, "alice")
	tabTo("publish-event")
	p.Press(t, "typed")
	tabTo("publish-data")
	p.Press(t, "by hand")
	tabTo("publish-key")
	p.Press(t, "typed-key")
	tabTo("publish-retain")
	p.Press(t, " ")
	p.Press(t, browsertest.KeyTab)
	p.waitUntil(t, `document.activeElement.type === "submit"`)
	p.Press(t, browsertest.KeyEnter)
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 2 streams as ")`)
	alice.waitFor(t, "event: typed\ndata: by hand\n")
}

func (p consolePage) testTail(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()

	control := d.Control(t)

	// The tail follows from the start.
	p.waitUntil(t, `all("#tail-state")[0] === "following" && all("#tail-list .text").includes("tick")`)
	p.Click(t, "#tail-clear")
	p.waitUntil(t, `all("#tail-list li").length === 0 && document.querySelector("#tail").offsetHeight < 250`)

	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "<i>to all</i>", Event: "notice"}); err != nil {
		t.Fatal(err)
	}

	p.waitUntil(t, `all("#tail-list .badge").join() === "notice · to everyone" && all("#tail-list .text").join() === "<i>to all</i>"`)
	p.waitUntil(t, `all("#tail-list .recipients").join() === "28 streams ·"`)

	sendTo(t, d, "user-07", "to one")
	p.waitUntil(t, `all("#tail-list .badge")[0] === "individual · to user user-07"`)
	d.WaitForStreams(t, 28) // the tail doesn't count

	// Following another audience.
	p.act(t, "#topics tr[data-key='orders.*']", "tail")
	p.waitUntil(t, `all("#tail-state")[0] === "following" && document.getElementById("tail-target").value === "orders.*"`)

	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "not followed"}); err != nil {
		t.Fatal(err)
	}

	if _, err := control.Publish(t.Context(), &pealv1.PublishRequest{Topic: "orders.7", Data: "paid"}); err != nil {
		t.Fatal(err)
	}

	p.waitUntil(t, `all("#tail-list .badge")[0] === "topic · to topic orders.7" && !all("#tail-list .text").includes("not followed")`)
	p.Click(t, "#tail-pause")

	if _, err := control.Publish(t.Context(), &pealv1.PublishRequest{Topic: "orders.8", Data: "meanwhile"}); err != nil {
		t.Fatal(err)
	}

	p.waitUntil(t, `all("#tail-pause")[0] === "Resume (1 new)" && !all("#tail-list .text").includes("meanwhile")`)
	p.Click(t, "#tail-pause")
	p.waitUntil(t, `all("#tail-list .text")[0] === "meanwhile"`)
	p.Click(t, "#tail-toggle")
	p.Click(t, "#tail-clear")
	p.waitUntil(t, `all("#tail-toggle", "#tail-state").join() === "Follow," && all("#tail-list li").length === 0`)
}

func (p consolePage) testDisconnect(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()
	p.Fill(t, "#users-search", "user-03")
	p.waitUntil(t, `all("#users tbody .key").join() === "user-03"`)
	p.act(t, "#users tr[data-key=user-03]", "disconnect")
	p.waitUntil(t, `document.getElementById("disconnect-dialog").open && all("#disconnect-user")[0] === "user-03"`)
	// Enter cancels.
	p.waitUntil(t, `document.activeElement.id === "disconnect-no"`)
	p.Click(t, "#disconnect-no")
	p.waitUntil(t, `!document.getElementById("disconnect-dialog").open && document.activeElement.closest("#users .actions") !== null`)
	p.act(t, "#users tr[data-key=user-03]", "disconnect")
	p.waitUntil(t, `(document.getElementById("disconnect-for").value = "3600s", true)`)
	p.Click(t, "#disconnect-yes")
	p.waitUntil(t, `all("#announce")[0] === "Closed 1 stream of user-03." && all("#users tbody .key").length === 0`)
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
		t.Errorf("a stream for a banned user: %s, want 204", reply.Status)
	}

	p.Fill(t, "#users-search", "")
}
