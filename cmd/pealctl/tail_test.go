package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// streams starts a server that replies to the nth request with the nth body, and
// to all further requests with the last body. It sends every request to received.
func streams(t *testing.T, bodies ...string) (url string, received <-chan *http.Request) {
	t.Helper()
	requests := make(chan *http.Request, 100)
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		fmt.Fprint(w, bodies[min(n, len(bodies)-1)])
		n++
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

func TestTailPrintsEvents(t *testing.T) {
	url, received := streams(t, "retry: 3000\n\n: hello\n\nid: a-1\nevent: broadcast\ndata: one\ndata: two\n\nid: a-2\n\ndata: ümlaut\n\nid: a-3\nevent: x\ndata: \x1b[31mred\n\n")
	r := pealctl(t, []string{"tail", url, "--user-token", "tok", "--last-event-id", "a-0", "--count", "3"})
	r.want(t, "a-1\tbroadcast\tone\n\t\ttwo\na-2\tmessage\tümlaut\na-3\tx\t\\x1b[31mred\n")
	request := <-received
	for name, want := range map[string]string{"Authorization": "Bearer tok", "Last-Event-ID": "a-0", "Accept": "text/event-stream"} {
		if got := request.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestTailResumes(t *testing.T) {
	url, received := streams(t,
		"retry: 1\n\nid: a-1\ndata: one\n\nid: a-7\n\n",
		"retry: 1\n\n", // a stream without events
		"id: a-8\ndata: eight\n\n")

	r := pealctl(t, []string{"tail", url, "-n", "2"})
	if r.status != 0 || r.stdout != "a-1\tmessage\tone\na-8\tmessage\teight\n" {
		t.Errorf("status %d, stdout %q", r.status, r.stdout)
	}
	if strings.Count(r.stderr, "stream closed by the server; reconnecting in 1ms") != 2 {
		t.Errorf("stderr doesn't report two closed streams: %q", r.stderr)
	}

	for _, want := range []string{"", "a-7", "a-7"} {
		if got := (<-received).Header.Get("Last-Event-ID"); got != want {
			t.Errorf("Last-Event-ID is %q, want %q", got, want)
		}
	}
}

func TestTailKeepsInitialID(t *testing.T) {
	url, received := streams(t, "retry: 1\n\n", "retry: 1\n\nid: a-8\ndata: eight\n\n", "data: more\n\n")
	if r := pealctl(t, []string{"tail", url, "-n", "2", "--last-event-id", "a-7"}); r.status != 0 {
		t.Fatal(r.stderr)
	}
	for _, want := range []string{"a-7", "a-7", "a-8"} {
		if got := (<-received).Header.Get("Last-Event-ID"); got != want {
			t.Errorf("Last-Event-ID is %q, want %q", got, want)
		}
	}
}

func TestTailLargeEvent(t *testing.T) {
	data := strings.Repeat("x", 5<<20)
	url, _ := streams(t, "id: a-1\ndata: "+data+"\n\n")
	r := pealctl(t, []string{"tail", url, "-n", "1", "--output", "json"})
	var event struct{ ID, Event, Data string }
	if err := json.Unmarshal([]byte(r.stdout), &event); err != nil {
		t.Fatal(err)
	}
	if event.ID != "a-1" || event.Event != "message" || event.Data != data {
		t.Errorf("id %q, event %q, %d bytes of data", event.ID, event.Event, len(event.Data))
	}
}

func TestTailStopsWhenRejected(t *testing.T) {
	for _, c := range []struct {
		status int
		kind   string
		body   string
		want   []string
	}{
		{401, "text/plain", "the token has expired\nmore\n", []string{"401 Unauthorized", "the token has expired"}},
		{204, "", "", []string{"204 No Content"}},
		{200, "text/html", "<p>", []string{"not an event stream", "text/html"}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.kind)
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		}))
		pealctl(t, []string{"tail", server.URL}).wantError(t, append(c.want, server.URL)...)
		server.Close()
	}
	pealctl(t, []string{"tail", "http://[::1"}).wantUsage(t, "invalid stream URL")
}

func TestTailInterrupted(t *testing.T) {
	url, _ := streams(t, "data: one\n\n")
	w := watch(t, "tail", url)
	w.until(t, "one")
	if code := w.stop(); code != 0 {
		t.Errorf("status %d, want 0", code)
	}
}

func TestTailOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: secret\n\n")
	}))
	defer server.Close()
	caFile := writePEM(t, "CERTIFICATE", server.Certificate().Raw)
	pealctl(t, []string{"tail", server.URL, "-n", "1", "--ca-file", caFile}).want(t, "\tmessage\tsecret\n")
}

func TestTailUntrustedCertificate(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	pealctl(t, []string{"tail", server.URL}).wantError(t, server.URL, "certificate signed by unknown authority")
}
