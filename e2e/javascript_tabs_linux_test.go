package e2e_test

import (
	"slices"
	"testing"
	"time"

	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
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

	stop := g.feed.flow(t, 100*time.Millisecond)
	defer stop()

	closed := g.takeLeader(t)
	g.lose(t, "closed", closed, closed.page.Close)
	g.open(t, "fourth")

	frozen := g.takeLeader(t)
	g.lose(t, "frozen", frozen, frozen.page.Freeze)
	frozen.page.Thaw(t)
	frozen.awaitEventAfter(t, time.Now())
	g.tabs = append(g.tabs, frozen)

	crashed := g.takeLeader(t)
	g.lose(t, "crashed", crashed, crashed.page.Crash)
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
	page.FindProcess(t) // now, since it takes so long that the leader would be replaced

	sent := g.feed.events()
	options := feedOptions(t, g.feed.control)
	options["shared"], options["position"] = true, sent[len(sent)-1].id

	tab := &groupTab{page.start(t, "", "http://"+g.daemon.SSE+"/events", options), len(sent)}
	tab.awaitState(t, "open")

	g.tabs = append(g.tabs, tab)
}

// takeLeader removes the tab that leads from the running ones, and returns it.
func (g *tabGroup) takeLeader(t *testing.T) *groupTab {
	t.Helper()

	index := -1

	if !testbed.Eventually(patience, func() bool {
		index = slices.IndexFunc(g.tabs, func(tab *groupTab) (leads bool) {
			tab.page.Await(t, `leads()`, &leads)

			return leads
		})

		return index >= 0
	}) {
		t.Fatal("no tab leads")
	}

	leader := g.tabs[index]
	g.tabs = slices.Delete(g.tabs, index, index+1)

	return leader
}

// lose does something to the leader, which isn't one of the running tabs any more, and
// waits until those receive events again.
func (g *tabGroup) lose(t *testing.T, what string, leader *groupTab, do func(testing.TB)) {
	t.Helper()

	begin := time.Now()

	do(t)
	g.awaitEvents(t)

	// Its last report may still have been on its way.
	received := leader.count()
	g.awaitEvents(t)

	if n := leader.count(); n != received {
		t.Errorf("%v received %d more events after it was %s", leader, n-received, what)
	}

	for _, tab := range g.tabs {
		t.Logf("%v: leader %s: events were delayed by up to %s", tab, what, tab.longestDelay(begin))
	}
}

// awaitEvents waits until all running tabs have received an event that has yet to be
// published.
func (g *tabGroup) awaitEvents(t *testing.T) {
	t.Helper()

	begin := time.Now()
	for _, tab := range g.tabs {
		tab.awaitEventAfter(t, begin)
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
