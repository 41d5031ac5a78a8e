package ssehttp_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/testbed"
	"github.com/peald/peald/ssehttp"
)

// envelope holds the members of an envelope, in the order of those in a stream.
type envelope struct {
	Topic     string `json:"topic,omitempty"`
	User      bool   `json:"user,omitempty"`
	Broadcast bool   `json:"broadcast,omitempty"`
	Event     string `json:"event"`
	Data      string `json:"data"`
	Time      string `json:"time"`
}

// polled is the response to a poll.
type polled struct {
	Events []struct {
		ID string
		envelope
	}

	Position string
	Reset    *struct {
		Reason string
		LastID string `json:"last_event_id"`
	}
}

// text returns the data in the response, preceded by the reason of its reset in brackets.
func (p *polled) text() string {
	var all []string
	if p.Reset != nil {
		all = append(all, "["+p.Reset.Reason+"]")
	}
	for _, e := range p.Events {
		all = append(all, e.Data)
	}
	return strings.Join(all, " ")
}

// read returns the whole body of a response.
func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// poll makes a poll and returns its response, which must be a 200.
func (s *server) poll(t *testing.T, query string, headers ...string) *polled {
	t.Helper()
	resp := s.request(t, "GET", "/events?"+query, append(headers, "Accept: application/json")...)
	body := read(t, resp)
	p := new(polled)
	if err := json.Unmarshal([]byte(body), p); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %q: %v", query, resp.StatusCode, body, err)
	}
	return p
}

// wait starts a poll that waits, and returns a channel for its response.
func (s *server) wait(t *testing.T, query string, headers ...string) <-chan *polled {
	t.Helper()
	before := s.broker.Polls().Waiting
	done := make(chan *polled, 1)
	go func() { done <- s.poll(t, query, headers...) }()
	if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Waiting > before || len(done) > 0 }) {
		t.Fatal("the poll doesn't wait")
	}
	return done
}

// keepingHistory gives a server a history.
func keepingHistory(_ *ssehttp.Config, b *broker.Config) {
	b.History = broker.History{MaxEvents: 10_000, MaxBytes: 64 << 20}
}

func TestPoll(t *testing.T) { onAll(t, testPoll) }

func testPoll(t *testing.T, via path) {
	s := start(t, via, keepingHistory)
	resp := s.request(t, "GET", "/events?topic=news", "Accept: application/json", "Authorization: Bearer good-alice", "Origin: https://app.example.com")
	body := read(t, resp)
	begin, err := s.broker.Position()
	if want := `{"events":[],"position":"` + begin + `","reset":null}` + "\n"; body != want || err != nil {
		t.Errorf("got %q, want %q (%v)", body, want, err)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "Vary": "Origin, Accept", "X-Content-Type-Options": "nosniff",
		"Access-Control-Allow-Origin": "https://app.example.com", "Content-Length": fmt.Sprint(len(body)), "Content-Encoding": "", "Connection": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	all := s.publish(t, broker.Message{Audience: broker.Everyone(), Event: "price", Data: "<b> \"é\"\n\x00\u2028"})
	s.publish(t, broker.Message{Audience: broker.ToUser("bob"), Data: "not for alice"})
	topic := s.publish(t, broker.Message{Audience: broker.ToTopic("news"), Data: "2"})
	own := s.publish(t, broker.Message{Audience: broker.ToUser("alice"), Data: "3"})
	end, _ := s.broker.Position()
	resp = s.request(t, "GET", "/events?topic=news&last_event_id="+begin, "Accept: application/json", "Authorization: Bearer good-alice")
	want := `{"events":[{"id":"` + all.ID + `","event":"price","data":"<b> \"é\"\n\u0000\u2028"},` +
		`{"id":"` + topic.ID + `","event":"topic","topic":"news","data":"2"},{"id":"` + own.ID + `","event":"individual","data":"3"}],"position":"` + end + `","reset":null}` + "\n"
	if got := read(t, resp); got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	const alice = "Authorization: Bearer good-alice"
	for _, c := range []struct {
		query, header, want string
	}{
		{"topic=news&since=all", "X: x", "<b> \"é\"\n\x00\u2028 2 3"},
		{"topic=news&rewind=1", "X: x", "3"},
		{"topic=news&since=all", "Last-Event-ID: " + all.ID, "2 3"},
		{"last_event_id=" + topic.ID, "X: x", "3"},
		{"last_event_id=other-1", "X: x", "[unknown]"},
		{"since=1h&topic=news", "X: x", "[expired] <b> \"é\"\n\x00\u2028 2 3"},
		{"wait=20s&topic=news&rewind=1", "X: x", "3"},
		{"wait=20s&last_event_id=other-1", "X: x", "[unknown]"},
	} {
		got := s.poll(t, c.query, c.header, alice)
		if got.text() != c.want || got.Position != end {
			t.Errorf("%s, %s: got %q at %s, want %q at %s", c.query, c.header, got.text(), got.Position, c.want, end)
		}
		if r := got.Reset; r != nil && r.LastID != mustParse(t, c.query).Get("last_event_id") {
			t.Errorf("%s: the reset has the id %q", c.query, r.LastID)
		}
	}
	if n := s.broker.Stats().Total.Connected; n != 0 {
		t.Errorf("%d connections were counted", n)
	}
	if !testbed.Eventually(time.Minute, func() bool { return s.handler.Open() == 0 }) {
		t.Errorf("%d are open", s.handler.Open())
	}
}

// TestPollOfTopicThatEnded checks that a client learns of the end, and then that nothing
// follows.
func TestPollOfTopicThatEnded(t *testing.T) { onBoth(t, testPollOfTopicThatEnded) }

func testPollOfTopicThatEnded(t *testing.T, via path) {
	s := start(t, via, keepingHistory)
	const alice = "Authorization: Bearer good-alice"
	waiting := s.wait(t, "topic=news&wait=1m", alice)
	s.publish(t, broker.Message{Audience: broker.ToTopic("news"), Data: "last", Final: true})
	got := <-waiting
	if got.text() != `last {"topic":"news"}` || got.Events[1].Event != "peald.end" || got.Events[1].Topic != "news" || got.Events[1].ID != "" {
		t.Errorf("got %+v", got)
	}
	resp := s.request(t, "GET", "/events?topic=news&wait=1m&last_event_id="+got.Position, "Accept: application/json", alice)
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("after the end: status %d, want 204", resp.StatusCode)
	}
}

func mustParse(t *testing.T, query string) url.Values {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func TestPollWaits(t *testing.T) { onAll(t, testPollWaits) }

// testPollWaits checks that polls wait for an event, lose none, and share a connection.
func testPollWaits(t *testing.T, via path) {
	s := start(t, via, keepingHistory)
	position := s.poll(t, "topic=news", "Authorization: Bearer good-alice").Position
	for i := range 10 {
		var reused bool
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/events?wait=1m&topic=news&last_event_id="+position, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Authorization", "Bearer good-alice")
		req.Header.Set("Origin", "https://app.example.com")

		var sent []broker.Receipt
		published := make(chan struct{})
		go func() {
			defer close(published)
			if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Waiting == 1 }) {
				t.Error("the poll doesn't wait")
			}
			if users := s.broker.Users("", "", 10); len(users) != 1 || users[0].ID != "alice" {
				t.Errorf("users %+v", users)
			}
			sent = append(sent, s.publish(t, broker.Message{Audience: broker.ToTopic("news"), Data: fmt.Sprint(i) + strings.Repeat(".", i*i*1000)}))
		}()
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := read(t, resp)
		_ = resp.Body.Close()
		<-published
		var got polled
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Events) != 1 || got.Events[0].ID != sent[0].ID || sent[0].Recipients != 1 || got.Position != sent[0].ID {
			t.Fatalf("poll %d got %.200s, want %v", i, body, sent)
		}
		// The engine closes the connection if net/http has read the request.
		keeps := via.direct || via.tls || via.http2 || via.engine == ssehttp.NetHTTP
		if reused != keeps && i > 0 || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
			t.Errorf("poll %d: connection reused %v, header %v", i, reused, resp.Header)
		}
		if !via.http2 && resp.ContentLength != int64(len(body)) {
			t.Errorf("poll %d: Content-Length %d, want %d", i, resp.ContentLength, len(body))
		}
		position = got.Position
	}
	if !testbed.Eventually(time.Minute, func() bool { return s.handler.Open() == 0 }) {
		t.Errorf("%d are open", s.handler.Open())
	}
	if p := s.broker.Polls(); p.Answered["events"] != 10 || p.Waiting != 0 {
		t.Errorf("polls %+v", p)
	}
	for name, n := range s.handler.Transports() {
		if n != 0 {
			t.Errorf("%d are open over %s", n, name)
		}
	}
}

// TestPollEnds checks how polls end that get no event.
func TestPollEnds(t *testing.T) { onAll(t, testPollEnds) }

func testPollEnds(t *testing.T, via path) {
	s := start(t, via, keepingHistory)
	if got := s.poll(t, "wait=20ms"); got.text() != "" || got.Position == "" {
		t.Errorf("after the wait: %+v", got)
	}

	left, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(left, http.MethodGet, s.URL+"/events?wait=1m", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	go func() {
		defer cancel()
		if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Waiting == 1 }) {
			t.Error("the poll doesn't wait")
		}
	}()
	if resp, err := s.client.Do(req); err == nil {
		_ = resp.Body.Close() // over HTTP/2 the header comes first
	}
	if !testbed.Eventually(time.Minute, func() bool { return s.broker.Polls().Answered["abandoned"] == 1 && s.handler.Open() == 0 }) {
		t.Errorf("after the client has left: %+v, %d open", s.broker.Polls(), s.handler.Open())
	}

	disconnected := s.wait(t, "wait=1m", "Authorization: Bearer good-alice")
	if _, err := s.broker.Disconnect("alice", time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := <-disconnected; got.text() != "" {
		t.Errorf("after a disconnect: %+v", got)
	}
	if resp := s.request(t, "GET", "/events?wait=1m", "Accept: application/json", "Authorization: Bearer good-alice"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("a banned user gets %d", resp.StatusCode)
	}

	drained := s.wait(t, "wait=1m")
	s.handler.Drain()
	if err := s.broker.Drain(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := <-drained; got.text() != "" || got.Position == "" {
		t.Errorf("after a drain: %+v", got)
	}
	for _, accept := range []string{"application/json", "application/json, text/event-stream;q=0.9"} {
		resp := s.request(t, "GET", "/events?wait=1m", "Accept: "+accept)
		if body := read(t, resp); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "shutting down") {
			t.Errorf("during a drain: %d, %v, %q", resp.StatusCode, resp.Header, body)
		}
	}
}

// TestFormats checks which requests get JSON, and which ones may wait.
func TestFormats(t *testing.T) { onBoth(t, testFormats) }

func testFormats(t *testing.T, via path) {
	s := start(t, via, nil)
	for name, c := range map[string]struct {
		method, query, accept string
		status                int
		want                  string // a content type, or part of the body
	}{
		"JSON":                       {"GET", "", "application/json", 200, "application/json"},
		"in capitals":                {"GET", "", "Application/JSON", 200, "application/json"},
		"with a charset":             {"GET", "", "application/json;charset=utf-8", 200, "application/json"},
		"any application type":       {"GET", "", "application/*", 200, "application/json"},
		"HEAD":                       {"HEAD", "wait=20s", "application/json", 200, "application/json"},
		"anything":                   {"GET", "", "*/*", 200, "text/event-stream"},
		"nothing":                    {"GET", "", "", 200, "text/event-stream"},
		"both":                       {"GET", "", "application/json, text/event-stream", 200, "text/event-stream"},
		"JSON and anything":          {"GET", "", "application/json, text/plain, */*", 200, "text/event-stream"},
		"JSON or else anything":      {"GET", "", "application/json, */*;q=0.8", 200, "application/json"},
		"JSON preferred":             {"GET", "", "text/event-stream;q=0.5, application/json;q=0.6", 200, "application/json"},
		"a stream preferred":         {"GET", "", "text/event-stream;q=0.6, application/json;q=0.5", 200, "text/event-stream"},
		"JSON excluded":              {"GET", "", "application/json;q=0", 406, "text/event-stream or application/json"},
		"a specific range wins":      {"GET", "", "*/*, text/event-stream;q=0.1", 200, "application/json"},
		"malformed weight":           {"GET", "", "text/event-stream;q=x, application/json;q=0.9", 200, "text/event-stream"},
		"other":                      {"GET", "", "text/html", 406, "text/html"},
		"wait for a stream":          {"GET", "wait=20s", "text/event-stream", 400, "Accept: application/json"},
		"wait without Accept":        {"GET", "wait=20s", "", 400, "Accept: application/json"},
		"wait for anything":          {"GET", "wait=20s", "*/*", 400, "Accept: application/json"},
		"wait 0":                     {"GET", "wait=0s", "application/json", 400, `wait is "0s"; want a duration of more than 0 and at most 60s, such as 20s`},
		"wait below 0":               {"GET", "wait=-1s", "application/json", 400, "more than 0"},
		"wait too long":              {"GET", "wait=60.001s", "application/json", 400, "at most 60s"},
		"wait without a unit":        {"GET", "wait=20", "application/json", 400, `"20"`},
		"wait empty":                 {"GET", "wait=", "application/json", 400, `wait is ""`},
		"wait with a sign":           {"GET", "wait=%2B5s", "application/json", 400, "+5s"},
		"wait malformed":             {"GET", "wait=banana", "application/json", 400, "banana"},
		"wait twice":                 {"GET", "wait=1s&wait=2s", "application/json", 400, "two different values for wait"},
		"wait twice the same":        {"GET", "wait=20ms&wait=20ms", "application/json", 200, "application/json"},
		"a name that contains wait":  {"GET", "await=x", "application/json", 200, "application/json"},
		"malformed query":            {"GET", "wait=1s&%zz", "application/json", 400, "malformed query"},
		"two starts":                 {"GET", "since=all&rewind=3", "application/json", 400, "since and rewind"},
		"a topic that isn't allowed": {"GET", "topic=x", "application/json", 403, "topic"},
		"a forged token":             {"GET", "access_token=x", "application/json", 401, "forged"},
	} {
		resp := s.request(t, c.method, "/events?"+c.query, "Accept: "+c.accept)
		got := resp.Header.Get("Content-Type")
		if c.status != http.StatusOK {
			got = read(t, resp)
		}
		if resp.StatusCode != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s: status %d with %q, want %d with %q", name, resp.StatusCode, got, c.status, c.want)
		}
		_ = resp.Body.Close()
	}
}

// connect opens a raw connection to the server.
func (s *server) connect(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if s.via.tls {
		transport, _ := s.client.Transport.(*http.Transport)
		cfg := transport.TLSClientConfig.Clone()
		cfg.ServerName = "127.0.0.1"
		conn = tls.Client(conn, cfg)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}
