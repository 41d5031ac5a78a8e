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
	if strings.Count(r.stderr, "stream closed by the server; reconnecting in ") != 2 {
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
		r := pealctl(t, []string{"tail", server.URL + "/?access_token=s3cret"})
		r.wantError(t, append(c.want, server.URL)...)
		if strings.Contains(r.stderr, "s3cret") {
			t.Errorf("the error contains the token: %s", r.stderr)
		}
		server.Close()
	}
	pealctl(t, []string{"tail", "http://[::1"}).wantUsage(t, "invalid URL")
}

func TestTailStarts(t *testing.T) {
	for _, c := range []struct{ flag, value, query, header string }{
		{"--since", "all", "since=all", ""},
		{"--since", "90s", "since=1m30s", ""},
		{"--since", "2026-11-27T09:30:00+01:00", "since=2026-11-27T09%3A30%3A00%2B01%3A00", ""},
		{"--since", "k3f9-41", "", "k3f9-41"},
		{"--rewind", "20", "rewind=20", ""},
		{"--last-event-id", "k3f9-41", "", "k3f9-41"},
		{"--last-event-id", "", "", ""},
	} {
		url, received := streams(t, "data: x\n\n")
		if r := pealctl(t, []string{"tail", url, "-n", "1", c.flag, c.value}); r.status != 0 {
			t.Fatalf("%s %s: %s", c.flag, c.value, r.stderr)
		}
		if r := <-received; r.URL.RawQuery != c.query || r.Header.Get("Last-Event-ID") != c.header {
			t.Errorf("%s %s: query %q, Last-Event-ID %q, want %q and %q", c.flag, c.value, r.URL.RawQuery, r.Header.Get("Last-Event-ID"), c.query, c.header)
		}
	}
}

func TestTailFlagErrors(t *testing.T) {
	for want, args := range map[string][]string{
		`invalid --since "yesterday"; want all, a duration such as 10m, a time such as`: {"--since", "yesterday"},
		`invalid --since "-5m"`:        {"--since", "-5m"},
		`invalid --since "2026-11-27"`: {"--since", "2026-11-27"},
		`invalid --since ""`:           {"--since", ""},
		`invalid --rewind 0; want a number of events from 1 to 1000`: {"--rewind", "0"},
		`invalid --rewind 1001`:                        {"--rewind", "1001"},
		`invalid --last-event-id "a\n"`:                {"--last-event-id", "a\n"},
		`invalid --silence-limit -1s`:                  {"--silence-limit", "-1s"},
		`invalid --topic ""`:                           {"--topic", ""},
		`--user-token: it contains`:                    {"--user-token", "a\n"},
		`since=all is given, and the URL has rewind=5`: {"http://127.0.0.1:1/?rewind=5", "--since", "all"},
		`[rewind since] were all set`:                  {"--since", "all", "--rewind", "5"},
		`[last-event-id rewind] were all set`:          {"--last-event-id", "a-1", "--rewind", "5"},
	} {
		pealctl(t, append([]string{"tail"}, args...)).wantUsage(t, want)
	}
}

func TestTailSilence(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Header.Get("Last-Event-ID") == "a-1" {
			fmt.Fprint(w, "id: a-2\ndata: two\n\n")
			return
		}
		fmt.Fprint(w, "retry: 1\nid: a-1\ndata: one\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	r := pealctl(t, []string{"tail", server.URL, "-n", "2", "--silence-limit", "300ms"})
	if r.status != 0 || r.stdout != "a-1\tmessage\tone\na-2\tmessage\ttwo\n" || !strings.Contains(r.stderr, "nothing received for 300ms; reconnecting in 1ms") {
		t.Errorf("status %d, stdout %q, stderr %q", r.status, r.stdout, r.stderr)
	}
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
