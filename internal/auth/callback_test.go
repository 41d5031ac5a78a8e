package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/internal/auth"
)

// newCallback returns a Callback that calls a server with this handler.
func newCallback(t *testing.T, change func(*auth.CallbackConfig), handler http.HandlerFunc) *auth.Callback {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cfg := auth.CallbackConfig{URL: server.URL, Timeout: 10 * time.Second, CacheFor: time.Minute, Concurrency: 4, Headers: []string{"X-Session"}}
	if change != nil {
		change(&cfg)
	}
	c, err := auth.NewCallback(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// browser returns a request with a session cookie and the other arguments of Authorize.
func browser(t *testing.T, session, query string) (*http.Request, url.Values, netip.Addr) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?"+query, http.NoBody)
	r.AddCookie(&http.Cookie{Name: "session", Value: session})
	r.Header.Set("X-Session", "h-"+session)
	r.Header.Set("X-Other", "not sent")
	r.Header.Set("Origin", "https://app.example")
	return r, r.URL.Query(), netip.MustParseAddr("192.0.2.7")
}

func respond(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func TestCallbackRequest(t *testing.T) {
	var got json.RawMessage
	c := newCallback(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != http.MethodPost {
			t.Errorf("%s with %v", r.Method, err)
		}
		io.WriteString(w, `{"user_id":"alice","topics":["orders.*"],"expires_at":"2999-01-01T00:00:00Z"}`)
	})

	r, query, client := browser(t, "s1", "topic=orders.1&topic=b&last_event_id=x-1&since=10m&rewind=3&wait=20s&envelope=1")
	r.AddCookie(&http.Cookie{Name: "session", Value: "with a shorter path"})

	id, err := c.Authorize(r, query, client)
	if err != nil || id.User != "alice" || !slices.Equal(id.Topics, []string{"orders.*"}) || id.Expires.Year() != 2999 {
		t.Errorf("Authorize = %+v, %v", id, err)
	}

	const want = `{"cookies":{"session":"s1"},"headers":{"X-Session":"h-s1"},"query":{"topic":["orders.1","b"]},"address":"192.0.2.7","origin":"https://app.example"}`
	if string(got) != want {
		t.Errorf("the request is\n%s, want\n%s", got, want)
	}
}

// TestCallbackRequestIsComplete sends cookies and headers that net/http leaves out. The
// application must not mistake the user for another one, or for an anonymous one.
func TestCallbackRequestIsComplete(t *testing.T) {
	for name, test := range map[string]struct {
		change func(h http.Header)
		want   string
	}{
		"cookie in UTF-8":         {func(h http.Header) { h.Set("Cookie", "session=müller") }, `"cookies":{"session":"müller"}`},
		"cookie in JSON":          {func(h http.Header) { h.Set("Cookie", `a=1; session={"id":"7\\"}; b`) }, `"cookies":{"a":"1","b":"","session":"{\"id\":\"7\\\\\"}"}`},
		"quoted cookie":           {func(h http.Header) { h.Set("Cookie", `session="7"`) }, `"cookies":{"session":"7"}`},
		"cookie without a name":   {func(h http.Header) { h.Set("Cookie", "; =7;") }, `"cookies":{"":"7"}`},
		"cookie with a space":     {func(h http.Header) { h.Set("Cookie", "my session=7 8\t;") }, `"cookies":{"my session":"7 8"}`},
		"cookies in two headers":  {func(h http.Header) { h["Cookie"] = []string{"a=1", "session=7"} }, `"cookies":{"a":"1","session":"7"}`},
		"a header twice":          {func(h http.Header) { h["X-Session"] = []string{"bob", "alice"} }, `"headers":{"X-Session":"bob, alice"}`},
		"a header twice, differs": {func(h http.Header) { h["X-Session"] = []string{"alice", "bob"} }, `"headers":{"X-Session":"alice, bob"}`},
	} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			c := newCallback(t, nil, func(w http.ResponseWriter, r *http.Request) {
				got, _ = io.ReadAll(r.Body)
				io.WriteString(w, `{"user_id":"alice"}`)
			})
			r, query, client := browser(t, "s", "")
			test.change(r.Header)
			if _, err := c.Authorize(r, query, client); err != nil || !strings.Contains(string(got), test.want) {
				t.Errorf("the request is %s (%v), want %s", got, err, test.want)
			}
		})
	}
}

func TestCallbackResponses(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		user    string
		denied  int // the status of a *DeniedError; -1 for ErrUnavailable
	}{
		"a user":             {respond(`{"user_id":"alice"}`), "alice", 0},
		"anonymous":          {respond(`{}`), "", 0},
		"401":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "", 401},
		"403":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, "", 403},
		"404":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "", -1},
		"500":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "", -1},
		"204":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "", -1},
		"redirect":           {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", 302) }, "", -1},
		"not JSON":           {respond(`<p>hello`), "", -1},
		"control characters": {respond(`{"user_id":"a\nb"}`), "", -1},
		"too long":           {respond(`{"user_id":"alice","pad":"` + strings.Repeat("x", 64<<10) + `"}`), "", -1},
		"expired":            {respond(`{"user_id":"alice","expires_at":"1999-01-01T00:00:00Z"}`), "", 401},
		"invalid date":       {respond(`{"user_id":"alice","expires_at":"soon"}`), "", -1},
		"aborted":            {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", -1},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := newCallback(t, nil, test.handler).Authorize(browser(t, "s", ""))
			denied, isDenied := errors.AsType[*auth.DeniedError](err)
			switch {
			case test.denied == -1 && !errors.Is(err, auth.ErrUnavailable),
				test.denied > 0 && (!isDenied || denied.Status != test.denied),
				test.denied == 0 && (err != nil || id.User != test.user),
				err != nil && id.User != "":
				t.Errorf("Authorize = %+v, %v", id, err)
			}
		})
	}
}

func TestCallbackCache(t *testing.T) {
	var requests atomic.Int64
	c := newCallback(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"user_id":"user`+strconv.FormatInt(requests.Add(1), 10)+`"}`)
	})

	ask := func(session, query string) string {
		t.Helper()
		id, err := c.Authorize(browser(t, session, query))
		if err != nil {
			t.Fatal(err)
		}
		return id.User
	}

	first := ask("a", "topic=x")
	for _, start := range []string{"", "&last_event_id=e-7", "&since=all", "&since=2026-11-27T09:30:00Z", "&rewind=3", "&wait=20s", "&envelope=1"} {
		if same := ask("a", "topic=x"+start); same != first {
			t.Errorf("%q: the same request has the users %s and %s", start, first, same)
		}
	}

	for _, other := range []string{ask("b", "topic=x"), ask("a", "topic=y"), ask("a", "topic=x&access_token=t")} {
		if other == first {
			t.Error("a different request has the same user")
		}
	}
}

func TestConcurrentCallbacksAreShared(t *testing.T) {
	var requests atomic.Int64
	started, gate := make(chan struct{}, 50), make(chan struct{})

	c := newCallback(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		started <- struct{}{}
		<-gate
		io.WriteString(w, `{"user_id":"alice"}`)
	})

	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if id, err := c.Authorize(browser(t, "s", "")); err != nil || id.User != "alice" {
				t.Errorf("Authorize = %+v, %v", id, err)
			}
		})
	}

	<-started
	close(gate)
	all.Wait()

	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestCallbackTimeout checks the time limit and the maximum number of concurrent
// requests with an application that doesn't reply.
func TestCallbackTimeout(t *testing.T) {
	var open, most atomic.Int64
	c := newCallback(t, func(cfg *auth.CallbackConfig) { cfg.Timeout = 200 * time.Millisecond }, func(_ http.ResponseWriter, r *http.Request) {
		n := open.Add(1)
		defer open.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); {
			m = most.Load()
		}
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})

	start := time.Now()
	var all sync.WaitGroup

	for i := range 40 {
		all.Go(func() {
			if _, err := c.Authorize(browser(t, strconv.Itoa(i), "")); !errors.Is(err, auth.ErrUnavailable) {
				t.Errorf("Authorize: %v", err)
			}
		})
	}

	all.Wait()
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	if n := most.Load(); n > 8 { // requests that timed out may still be counted
		t.Errorf("%d concurrent requests, want at most 4", n)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	r, query, client := browser(t, "gone", "")
	if _, err := c.Authorize(r.WithContext(ctx), query, client); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled request: %v", err)
	}
}

// TestCallbackRequiresUTF8 checks that a request with invalid UTF-8 isn't sent, because
// its JSON would be ambiguous.
func TestCallbackRequiresUTF8(t *testing.T) {
	var requests atomic.Int64
	c := newCallback(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		io.WriteString(w, `{"user_id":"alice"}`)
	})
	for name, corrupt := range map[string]func(r *http.Request){
		"the header X-Session":       func(r *http.Request) { r.Header.Set("X-Session", "m\xfcller") },
		`the cookie "session"`:       func(r *http.Request) { r.Header.Set("Cookie", "session=m\xfcller") },
		"the header Origin":          func(r *http.Request) { r.Header.Set("Origin", "https://m\xfcller.example") },
		`the query parameter "name"`: func(r *http.Request) { r.URL.RawQuery = "name=m%FCller" },
		`the query parameter "\xfc"`: func(r *http.Request) { r.URL.RawQuery = "%FC=x" },
	} {
		r, _, client := browser(t, "1", "")
		corrupt(r)
		_, err := c.Authorize(r, r.URL.Query(), client)
		invalid, ok := errors.AsType[*auth.RequestError](err)
		if !ok || invalid.Part != name {
			t.Errorf("with %s not UTF-8: %v, want a RequestError that names it", name, err)
		}
	}

	if n := requests.Load(); n > 0 {
		t.Errorf("the application received %d requests", n)
	}
}
