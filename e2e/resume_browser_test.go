package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// TestBrowserResumes breaks the connections of an EventSource at critical moments,
// and checks the list of events on its page for gaps.
func TestBrowserResumes(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, testBrowserResumes)
}

func testBrowserResumes(t *testing.T, b *browsertest.Browser, engine func(*daemon.Config)) {
	t.Helper()

	pages := httptest.NewServer(http.FileServer(http.Dir("../examples/html")))
	t.Cleanup(pages.Close)

	configure := func(cfg *daemon.Config) {
		cfg.SSE.AllowedOrigins = []string{pages.URL}
		cfg.SSE.Retry = 50 * time.Millisecond
		if cfg.SSE.Engine == daemon.EngineNetHTTP {
			cfg.SSE.Compression = daemon.CompressionOff // all other browsers get compressed streams
		}
	}
	d := pealdtest.Start(t, engine, configure)
	tunnel := newProxy(t, d.SSE)

	visit := func(user string) listPage {
		t.Helper()

		stream := strings.Replace(d.Events(t, user), d.SSE, tunnel.addr, 1)
		page := listPage{b.Open(t, pages.URL+"/?types=peald.reset&url="+url.QueryEscape(stream))}
		page.WaitFor(t, `element("state").dataset.state === "open"`)

		return page
	}

	sendTo := func(d *pealdtest.Daemon, user, data string) {
		t.Helper()

		if _, err := d.Control(t).SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: user, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	send := func(d *pealdtest.Daemon, data string) {
		t.Helper()
		sendTo(d, "alice", data)
	}

	page, other := visit("alice"), visit("bob")

	// Neither page has received an event yet, so both resume from the position
	// mark at the start of their streams. A backend disconnects one of them.
	tunnel.refuse()

	if _, err := d.Control(t).Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "bob"}); err != nil {
		t.Fatal(err)
	}

	other.WaitFor(t, `element("state").dataset.state === "connecting"`)
	sendTo(d, "bob", "while away, before any event")
	tunnel.open()
	other.wantEvents(t, []string{"individual", "while away, before any event"})
	other.Close(t)

	// The other page's connection breaks.
	tunnel.cut()
	page.WaitFor(t, `element("state").dataset.state === "connecting"`)
	send(d, "while away, before any event")
	tunnel.open()

	want := []string{"individual", "while away, before any event"}
	page.wantEvents(t, want)

	for n := range 5 {
		send(d, fmt.Sprintf("%d, there", n))
		tunnel.cut()
		send(d, fmt.Sprintf("%d, away", n))
		tunnel.open()

		want = append(want, "individual", fmt.Sprintf("%d, there", n), "individual", fmt.Sprintf("%d, away", n))
		page.wantEvents(t, want)
	}

	// Another process on the same port has another history, so the page gets a
	// reset.
	d.Stop(t)
	page.WaitFor(t, `element("state").dataset.state === "connecting"`)

	again := pealdtest.Start(t, engine, configure, func(cfg *daemon.Config) { cfg.SSE.Addr = d.SSE })
	again.WaitForStreams(t, 1)
	send(again, "from the next process")

	events := page.events(t, len(want)/2+2)
	if got := events[:len(want)]; !slices.Equal(got, want) {
		t.Errorf("the list on the page begins with %q, want %q", got, want)
	}

	reset, rest := events[len(want):len(want)+2], events[len(want)+2:]
	if reset[0] != "peald.reset" || !strings.Contains(reset[1], `"reason":"unknown"`) {
		t.Errorf("after the restart the page got %q, want a reset", reset)
	}

	if after := []string{"individual", "from the next process"}; !slices.Equal(rest, after) {
		t.Errorf("after the reset the page got %q, want %q", rest, after)
	}
}
