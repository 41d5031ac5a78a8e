package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// clientSite serves testdata/client.html, and collects what the JavaScript clients on its
// pages report.
type clientSite struct {
	*httptest.Server

	mu     sync.Mutex
	pages  map[string]*clientPage
	tokens map[string]func(n int) string // by the name of the client; n counts from 1
}

// clientPage is a page with clients.
type clientPage struct {
	*browsertest.Tab

	site    *clientSite
	name    string
	clients map[string]*pageClient // guarded by site.mu
}

// pageClient is a client on a page. Its fields are guarded by site.mu.
type pageClient struct {
	page *clientPage
	name string

	events []receivedEvent
	states []clientState
	resets []string
	faults []string
	tokens int // how often it has asked for a token
}

// receivedEvent is an event as a page gets it.
type receivedEvent struct {
	ID, Type, Topic, Audience, Data string

	Time     time.Time
	Retained bool
	at       time.Time // when it arrived
}

type clientState struct {
	name string
	at   time.Time
}

// String returns the state and the time of day.
func (s clientState) String() string { return s.at.Format("15:04:05.000 ") + s.name }

func newClientSite(t *testing.T) *clientSite {
	t.Helper()

	s := &clientSite{pages: map[string]*clientPage{}, tokens: map[string]func(int) string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join("testdata", "client.html"))
	})
	mux.HandleFunc("POST /report", s.report)
	mux.HandleFunc("POST /token", s.token)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)

	return s
}

// allow is a change that lets the pages use a daemon.
func (s *clientSite) allow(cfg *daemon.Config) {
	cfg.SSE.AllowedOrigins = []string{s.URL}
	cfg.SSE.Retry = 100 * time.Millisecond
}

// handOut sets the source of tokens for the clients with a name. It gets the number of the
// client's request.
func (s *clientSite) handOut(name string, source func(n int) string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.tokens[name] = source
}

// open opens a page in a browser, which loads the client from a daemon.
func (s *clientSite) open(t *testing.T, b *browsertest.Browser, d *pealdtest.Daemon, name string) *clientPage {
	t.Helper()

	p := &clientPage{site: s, name: fmt.Sprintf("%s-%s", b.Kind, name), clients: map[string]*pageClient{}}

	s.mu.Lock()
	s.pages[p.name] = p
	s.mu.Unlock()

	p.Tab = b.Open(t, s.URL+"/?"+url.Values{"tab": {p.name}, "module": {"http://" + d.SSE + "/peald.js"}}.Encode())
	p.WaitFor(t, `window.loaded`)

	return p
}

// start starts a client with options for Peald.
func (p *clientPage) start(t *testing.T, name, stream string, options map[string]any) *pageClient {
	t.Helper()

	c := &pageClient{page: p, name: name}

	p.site.mu.Lock()
	p.clients[name] = c
	p.site.mu.Unlock()

	p.Eval(t, fmt.Sprintf(`start(%s, %s, %s)`, jsonOf(t, name), jsonOf(t, stream), jsonOf(t, options)), nil)

	return c
}

// report stores what clients have done.
func (s *clientSite) report(w http.ResponseWriter, r *http.Request) {
	var lines []struct {
		Client, State, Reset, Fault string

		Event *receivedEvent
		At    int64
	}

	if err := json.NewDecoder(r.Body).Decode(&lines); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)

		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	for _, line := range lines {
		c := s.pages[r.FormValue("tab")].clients[line.Client]
		at := time.UnixMilli(line.At)

		switch {
		case line.Event != nil:
			line.Event.at = at
			c.events = append(c.events, *line.Event)
		case line.State != "":
			c.states = append(c.states, clientState{line.State, at})
		case line.Reset != "":
			c.resets = append(c.resets, line.Reset)
		default:
			c.faults = append(c.faults, line.Fault)
		}
	}
}

// token hands out tokens.
func (s *clientSite) token(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("client")

	s.mu.Lock()
	c := s.pages[r.FormValue("tab")].clients[name]
	c.tokens++
	n, source := c.tokens, s.tokens[name]
	s.mu.Unlock()

	_, _ = fmt.Fprint(w, source(n))
}

// await waits until a condition holds for a client.
func (c *pageClient) await(t *testing.T, what string, holds func() bool) {
	t.Helper()

	if !testbed.Eventually(patience, func() bool {
		c.page.site.mu.Lock()
		defer c.page.site.mu.Unlock()

		return holds()
	}) {
		c.page.site.mu.Lock()
		defer c.page.site.mu.Unlock()

		for _, page := range c.page.site.pages {
			for _, other := range page.clients {
				t.Logf("%v has %d events, the states %v, the resets %q and the faults %q", other, len(other.events), other.states, other.resets, other.faults)
			}
		}

		t.Fatalf("%v: no %s after %s", c, what, patience)
	}
}

// awaitState waits until a client has a state.
func (c *pageClient) awaitState(t *testing.T, state string) {
	t.Helper()
	c.await(t, "state "+state, func() bool { return len(c.states) > 0 && c.states[len(c.states)-1].name == state })
}

// tookUntil returns how long after its start a client had a state for the first time.
func (c *pageClient) tookUntil(state string) time.Duration {
	c.page.site.mu.Lock()
	defer c.page.site.mu.Unlock()

	i := slices.IndexFunc(c.states, func(s clientState) bool { return s.name == state })
	if i < 0 {
		return -1
	}

	return c.states[i].at.Sub(c.states[0].at)
}

// want waits until a client has events, and checks that it has received nothing else,
// and each of them once and in order. It may not have got a reset.
func (c *pageClient) want(t *testing.T, events []sentEvent) {
	t.Helper()
	c.await(t, "further event", func() bool { return len(c.events) >= len(events) })

	c.page.site.mu.Lock()
	defer c.page.site.mu.Unlock()

	if len(c.faults)+len(c.resets) > 0 || len(c.events) > len(events) {
		t.Errorf("%v: faults %q, resets %q, and %d events, want %d", c, c.faults, c.resets, len(c.events), len(events))
	}

	for i := range min(len(events), len(c.events)) {
		if fault := c.events[i].compare(&events[i]); fault != "" {
			t.Fatalf("%v: event %d of %d: %s", c, i, len(events), fault)
		}
	}
}

// firstAfter returns when the first event arrived that was published after a point in
// time.
func (c *pageClient) firstAfter(begin time.Time) time.Time {
	c.page.site.mu.Lock()
	defer c.page.site.mu.Unlock()

	for _, e := range c.events {
		if e.Time.After(begin) {
			return e.at
		}
	}

	return time.Time{}
}

// String returns the names of a client and its page.
func (c *pageClient) String() string { return strings.TrimSuffix(c.page.name+" "+c.name, " ") }

// compare returns how an event differs from what was published; empty if it doesn't.
func (e *receivedEvent) compare(sent *sentEvent) string {
	got, want := *e, receivedEvent{ID: sent.id, Type: sent.typ, Topic: sent.topic, Audience: sent.audience, Data: sent.data}
	got.Time, got.at = time.Time{}, time.Time{}

	// Times in pages have a precision of a millisecond.
	switch {
	case got != want:
		return fmt.Sprintf("got %+v, want %+v", got, want)
	case e.Time.Before(sent.began.Truncate(time.Millisecond)) || e.Time.After(sent.acknowledged):
		return fmt.Sprintf("it has the time %s, want one from %s to %s", e.Time, sent.began, sent.acknowledged)
	}

	return ""
}
