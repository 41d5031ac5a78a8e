package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// TestBrowserMissesNothing cuts a real EventSource off, at moments that matter,
// and looks at the list that its page keeps.
func TestBrowserMissesNothing(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, testBrowserMissesNothing)
}

func testBrowserMissesNothing(t *testing.T, b *browsertest.Browser, engine func(*daemon.Config)) {
	t.Helper()

	pages := httptest.NewServer(http.FileServer(http.Dir("../examples/html")))
	t.Cleanup(pages.Close)

	configure := func(cfg *daemon.Config) {
		cfg.SSE.AllowedOrigins = []string{pages.URL}
		cfg.SSE.Retry = 50 * time.Millisecond
	}
	d := pealdtest.Start(t, engine, configure)
	way := newTunnel(t, d.SSE)

	visit := func(user string) listPage {
		t.Helper()

		stream := strings.Replace(d.Events(t, user), d.SSE, way.addr, 1)
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

	// Neither page has received an event yet, so all that they have to resume
	// from is the position mark that their streams began with. One stream is
	// closed in order, as a backend wants it.
	way.refuse()

	if _, err := d.Control(t).Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "bob"}); err != nil {
		t.Fatal(err)
	}

	other.WaitFor(t, `element("state").dataset.state === "connecting"`)
	sendTo(d, "bob", "while away, before any event")
	way.open()
	other.wantEvents(t, []string{"individual", "while away, before any event"})
	other.Close(t)

	// The other one breaks.
	way.cut()
	page.WaitFor(t, `element("state").dataset.state === "connecting"`)
	send(d, "while away, before any event")
	way.open()

	want := []string{"individual", "while away, before any event"}
	page.wantEvents(t, want)

	for n := range 5 {
		send(d, fmt.Sprintf("%d, there", n))
		way.cut()
		send(d, fmt.Sprintf("%d, away", n))
		way.open()

		want = append(want, "individual", fmt.Sprintf("%d, there", n), "individual", fmt.Sprintf("%d, away", n))
		page.wantEvents(t, want)
	}

	// Another process on the same port has another log: the page is told.
	d.Stop(t)
	page.WaitFor(t, `element("state").dataset.state === "connecting"`)

	again := pealdtest.Start(t, engine, configure, func(cfg *daemon.Config) { cfg.SSE.Addr = d.SSE })
	again.WaitForStreams(t, 1)
	send(again, "from the next process")

	events := page.events(t, len(want)/2+2)
	if got := events[:len(want)]; !slices.Equal(got, want) {
		t.Errorf("the page's list begins with %q, want %q", got, want)
	}

	reset, rest := events[len(want):len(want)+2], events[len(want)+2:]
	if reset[0] != "peald.reset" || !strings.Contains(reset[1], `"reason":"unknown"`) {
		t.Errorf("after the restart the page got %q, want a reset", reset)
	}

	if after := []string{"individual", "from the next process"}; !slices.Equal(rest, after) {
		t.Errorf("after the reset the page got %q, want %q", rest, after)
	}
}

// tunnel is a way to an address that can be cut.
type tunnel struct {
	addr   string
	target string

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

func newTunnel(t *testing.T, target string) *tunnel {
	t.Helper()

	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	w := &tunnel{addr: listener.Addr().String(), target: target, conns: map[net.Conn]struct{}{}}

	var running sync.WaitGroup

	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}

			running.Go(func() { w.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()

		w.cut()
		running.Wait()
	})

	return w
}

// carry forwards both ways until either side ends.
func (w *tunnel) carry(near net.Conn) {
	defer near.Close()

	far, err := new(net.Dialer).DialContext(context.Background(), "tcp", w.target)
	if err != nil {
		return
	}
	defer far.Close()

	if !w.hold(near, far) {
		return
	}

	var back sync.WaitGroup

	back.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})

	_, _ = io.Copy(near, far)
	_ = near.Close()

	back.Wait()
}

func (w *tunnel) hold(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()

	for _, c := range conns {
		w.conns[c] = struct{}{}
	}

	return !w.closed
}

// refuse lets no new connection through until open.
func (w *tunnel) refuse() {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.closed = true
}

// cut breaks all connections, and lets none through until open.
func (w *tunnel) cut() {
	w.refuse()

	w.mu.Lock()
	defer w.mu.Unlock()

	for c := range w.conns {
		_ = c.Close()
	}

	clear(w.conns)
}

func (w *tunnel) open() {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.closed = false
}
