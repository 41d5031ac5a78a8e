package proxies_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/internal/browsertest"
)

// page opens an EventSource through each proxy and records the events.
const page = `<!doctype html><meta charset="utf-8"><title>Streams through proxies</title>
<pre id="show"></pre>
<script>
const streams = {};
for (const [name, url] of new URLSearchParams(location.search)) {
	const source = new EventSource(url);
	const stream = streams[name] = { source, opened: 0, got: [] };
	show.textContent += name + " " + url + "\n";
	source.onerror = () => { show.textContent += name + " " + source.readyState + "\n"; };
	source.onopen = () => { stream.opened++; };
	source.onmessage = (event) => { stream.got.push(event.data); };
	source.addEventListener("peald.reset", (event) => { stream.got.push("reset " + JSON.parse(event.data).reason); });
}
const all = (holds) => Object.values(streams).every(holds);
</script>`

// TestBrowsers opens a plain EventSource in Chromium through every proxy that answers
// while no daemon is reachable. With SOAK, it uses every browser. The streams must survive
// when the daemon is killed and restarted, and when two daemons are shut down one after
// the other.
func TestBrowsers(t *testing.T) {
	t.Parallel()

	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page)
	}))
	t.Cleanup(pages.Close)

	first, second := newProcess(t, pages.URL), newProcess(t, pages.URL)
	first.start(t)

	var (
		b        browsers
		starting sync.WaitGroup
	)

	starting.Go(func() { b = startBrowsers(t) })
	fronts := startAll(t, setup{origin: pages.URL, retry: time.Second, backends: []string{first.sse(), second.sse()}})
	starting.Wait()

	// A helper that fails or skips the test only ends its own goroutine.
	if t.Failed() || t.Skipped() {
		t.SkipNow()
	}

	streams := url.Values{}
	for _, f := range fronts {
		streams.Set(f.name, f.url("/events"))
	}

	b.open(t, pages.URL+"/?"+streams.Encode())

	held := len(b.tabs) * len(fronts)

	b.waitFor(t, `all((stream) => stream.opened > 0)`)
	first.awaitStreams(t, held)
	first.publish(t, "1")

	// The event log survives. That includes an event acknowledged just before the
	// daemon is killed, and one published before the streams have reconnected.
	first.publish(t, "2")
	first.end(syscall.SIGKILL)
	b.waitFor(t, `all((stream) => stream.opened > 1)`) // the proxy's own response
	first.start(t)
	first.publish(t, "3")
	first.awaitStreams(t, held)
	first.publish(t, "4")
	b.want(t, "1", "2", "3", "4")

	// Two daemons without a cluster share no events, so streams get a reset.
	second.start(t)
	first.end(syscall.SIGTERM)
	second.awaitStreams(t, held)
	second.publish(t, "5")
	b.want(t, "1", "2", "3", "4", "reset unknown", "5")

	first.start(t)
	second.end(syscall.SIGTERM)
	first.awaitStreams(t, held)
	first.publish(t, "6")
	b.want(t, "1", "2", "3", "4", "reset unknown", "5", "reset unknown", "6")
}

// startAll starts the proxies that answer while no daemon is reachable.
func startAll(t *testing.T, s setup) []*front {
	t.Helper()

	var fronts []*front

	for _, k := range kinds() {
		if k.answers {
			fronts = append(fronts, k.start(t, s))
		}
	}

	return fronts
}

// browsers holds a tab in each kind of browser.
type browsers struct {
	kinds []browsertest.Kind
	tabs  []*browsertest.Tab
}

func startBrowsers(t *testing.T) browsers {
	t.Helper()

	b := browsers{kinds: []browsertest.Kind{browsertest.Chromium}}
	if os.Getenv("SOAK") != "" {
		b.kinds = browsertest.Kinds()
	}

	b.tabs = make([]*browsertest.Tab, len(b.kinds))

	var all sync.WaitGroup

	for i, kind := range b.kinds {
		all.Go(func() { b.tabs[i] = browsertest.Start(t, kind).NewTab(t) })
	}

	all.Wait()

	return b
}

// open opens a page in all tabs.
func (b browsers) open(t *testing.T, address string) {
	t.Helper()

	for _, tab := range b.tabs {
		tab.Open(t, address)
	}
}

// waitFor waits until a condition is true in all pages.
func (b browsers) waitFor(t *testing.T, condition string) {
	t.Helper()

	for _, tab := range b.tabs {
		tab.WaitFor(t, condition)
	}
}

// want checks the events that all streams of all pages have received.
func (b browsers) want(t *testing.T, want ...string) {
	t.Helper()

	last := want[len(want)-1]
	b.waitFor(t, fmt.Sprintf(`all((stream) => stream.got.at(-1) === %q)`, last))

	for i, tab := range b.tabs {
		var got map[string][]string

		tab.Eval(t, `Object.fromEntries(Object.entries(streams).map(([name, stream]) => [name, stream.got]))`, &got)

		for name, events := range got {
			if !slices.Equal(events, want) {
				t.Errorf("%s through %s received %s, want %s", b.kinds[i], name, strings.Join(events, " "), strings.Join(want, " "))
			}
		}
	}
}
