package e2e_test

import (
	"slices"
	"testing"
	"time"

	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// TestJavaScriptTabs closes, freezes and crashes the tab that holds the stream of three
// tabs, while events are published all the time. Every event must reach each of the
// others once and in order, and the frozen tab afterwards.
func TestJavaScriptTabs(t *testing.T) {
	t.Parallel()

	for _, kind := range browsertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			testJavaScriptTabs(t, browsertest.StartIsolated(t, kind))
		})
	}
}

func testJavaScriptTabs(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	site := newClientSite(t)
	d := pealdtest.Start(t, site.allow)
	g := &tabGroup{site: site, browser: b, daemon: d, feed: &feed{control: d.Control(t)}}
	g.feed.publish(t, 1)

	for _, name := range []string{"first", "second", "third"} {
		g.open(t, name)
	}

	stop := g.feed.flow(t, 50*time.Millisecond)
	defer stop()

	closed := g.takeLeader(t)
	g.lose(t, "closed", func() { closed.page.Close(t) })
	g.open(t, "fourth")

	frozen := g.takeLeader(t)
	frozen.page.FindProcess(t)
	g.lose(t, "frozen", func() { frozen.page.Freeze(t) })
	frozen.page.Thaw(t)
	frozen.awaitEventAfter(t, time.Now())
	g.tabs = append(g.tabs, frozen)

	crashed := g.takeLeader(t)
	crashed.page.FindProcess(t)
	g.lose(t, "crashed", func() { crashed.page.Crash(t) })

	stop()

	for _, tab := range g.tabs {
		tab.want(t, g.feed.events()[tab.from:])
	}

	for _, tab := range []*groupTab{closed, crashed} {
		received := g.feed.events()[tab.from:]
		tab.want(t, received[:tab.count()])
	}

	d.WaitForStreams(t, 1)
}

// tabGroup holds the tabs that share a stream.
type tabGroup struct {
	site    *clientSite
	browser *browsertest.Browser
	daemon  *pealdtest.Daemon
	feed    *feed
	tabs    []*groupTab // that are running
}

// groupTab is a tab that must receive the events of the feed beginning with one of them.
type groupTab struct {
	*pageClient

	from int
}

// open opens a tab that starts after the last event of the feed.
func (g *tabGroup) open(t *testing.T, name string) {
	t.Helper()

	page := g.site.open(t, g.browser, g.daemon, name)
	sent := g.feed.events()
	options := feedOptions(t, g.feed.control)
	options["shared"], options["position"] = true, sent[len(sent)-1].id

	tab := &groupTab{page.start(t, "", "http://"+g.daemon.SSE+"/events", options), len(sent)}
	tab.awaitState(t, "open")

	g.tabs = append(g.tabs, tab)
}

// takeLeader removes the tab that leads from the running ones, and returns it.
func (g *tabGroup) takeLeader(t *testing.T) (leader *groupTab) {
	t.Helper()

	if !pealdtest.Eventually(patience, func() bool {
		for i, tab := range g.tabs {
			var leads bool
			if tab.page.Await(t, `leads()`, &leads); leads {
				leader = tab
				g.tabs = slices.Delete(g.tabs, i, i+1)

				return true
			}
		}

		return false
	}) {
		t.Fatal("no tab leads")
	}

	return leader
}

// lose does something to the leader, and waits until the others receive events again.
func (g *tabGroup) lose(t *testing.T, what string, do func()) {
	t.Helper()

	begin := time.Now()

	do()

	done := time.Now()

	for _, tab := range g.tabs {
		tab.awaitEventAfter(t, done)
		t.Logf("%v: leader %s: events were delayed by up to %s", tab, what, tab.longestDelay(begin))
	}
}

// awaitEventAfter waits for an event that was published after a point in time.
func (c *pageClient) awaitEventAfter(t *testing.T, begin time.Time) {
	t.Helper()
	c.await(t, "later event", func() bool { return len(c.events) > 0 && c.events[len(c.events)-1].Time.After(begin) })
}

// longestDelay returns the longest time that an event took to arrive which was published
// after a point in time.
func (c *pageClient) longestDelay(begin time.Time) (longest time.Duration) {
	c.page.site.mu.Lock()
	defer c.page.site.mu.Unlock()

	for _, e := range c.events {
		if e.Time.After(begin) {
			longest = max(longest, e.at.Sub(e.Time))
		}
	}

	return longest
}

// count returns the number of events that a client has received.
func (c *pageClient) count() int {
	c.page.site.mu.Lock()
	defer c.page.site.mu.Unlock()

	return len(c.events)
}
