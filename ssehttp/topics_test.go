package ssehttp_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// withHistory configures a history of 5 events.
func withHistory(_ *ssehttp.Config, b *broker.Config) {
	b.History = broker.History{MaxEvents: 5, MaxBytes: 1 << 20, MaxAge: time.Minute}
}

func TestTopics(t *testing.T) { onAll(t, testTopics) }

func testTopics(t *testing.T, via path) {
	s := start(t, via, nil)
	resp := s.request(t, "GET", "/events?topic=orders.new&topic=orders.new&topic=logs.%3E&access_token=good-alice")
	body := bufio.NewReader(resp.Body)
	block(t, body)
	for topic, recipients := range map[string]int{"orders.old": 0, "news": 0, "logs": 0} {
		if r := s.publish(t, broker.Message{Audience: broker.ToTopic(topic), Data: "x"}); r.Recipients != recipients {
			t.Errorf("%s has %d recipients, want %d", topic, r.Recipients, recipients)
		}
	}
	for _, topic := range []string{"orders.new", "logs.eu.error"} {
		r := s.publish(t, broker.Message{Audience: broker.ToTopic(topic), Data: "of " + topic})
		if got, want := block(t, body), "id: "+r.ID+"\nevent: topic\ndata: of "+topic+"\n\n"; got != want || r.Recipients != 1 {
			t.Errorf("got %q, %d recipients, want %q", got, r.Recipients, want)
		}
	}
}

func TestRejectedTopics(t *testing.T) { onBoth(t, testRejectedTopics) }

func testRejectedTopics(t *testing.T, via path) {
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) { c.AnonymousTopics = []string{"news", "prices.*"} })
	many := func(n int) string {
		q := url.Values{"access_token": {"good-alice"}}
		for i := range n {
			q.Add("topic", fmt.Sprintf("logs.%d", i))
		}

		return q.Encode()
	}

	for name, c := range map[string]struct {
		query  string
		status int
		want   string // part of the body
	}{
		"allowed for alice":         {"topic=news&topic=orders.7&topic=logs.a.b&access_token=good-alice", 200, ""},
		"the allowed pattern":       {"topic=orders.*&topic=logs.%3E&access_token=good-alice", 200, ""},
		"a narrower pattern":        {"topic=logs.*.x&topic=logs.eu.%3E&access_token=good-alice", 200, ""},
		"not allowed for alice":     {"topic=news&topic=prices.eur&access_token=good-alice", 403, `"prices.eur"`},
		"a wider pattern":           {"topic=orders.%3E&access_token=good-alice", 403, `"orders.>"`},
		"everything":                {"topic=%3E&access_token=good-alice", 403, `">"`},
		"outside the pattern":       {"topic=orders.a.b&access_token=good-alice", 403, `"orders.a.b"`},
		"allowed for anonymous":     {"topic=news&topic=prices.eur", 200, ""},
		"not allowed for anonymous": {"topic=orders.new", 403, `"orders.new"`},
		"an empty topic":            {"topic=&access_token=good-alice", 400, "topic is empty"},
		"a long topic":              {"topic=" + strings.Repeat("x", 256), 400, "topic is 256 bytes long"},
		"a control character":       {"topic=a%0Ab", 400, "topic has the control character"},
		"a NUL in a pattern":        {"topic=a.%00.*", 400, "topic has the control character"},
		"not UTF-8":                 {"topic=a%FF", 400, "topic is not valid UTF-8"},
		"overlong UTF-8":            {"topic=a%C0%AF", 400, "topic is not valid UTF-8"},
		"a lone surrogate":          {"topic=%ED%A0%BD", 400, "topic is not valid UTF-8"},
		"a surrogate pair":          {"topic=%ED%A0%BD%ED%B8%80", 400, "topic is not valid UTF-8"},
		"truncated UTF-8":           {"topic=%F0%9F%98", 400, "topic is not valid UTF-8"},
		"beyond Unicode":            {"topic=%F4%90%80%80", 400, "topic is not valid UTF-8"},
		"split character":           {"topic=%C3&topic=%A9", 400, "topic is not valid UTF-8"},
		"a pattern not UTF-8":       {"topic=%FF.*", 400, "topic is not valid UTF-8"},
		"an id not UTF-8":           {"last_event_id=e%FF-1", 400, "last_event_id is"},
		"two tokens":                {"access_token=good-alice&access_token=good-bob", 400, "two different tokens"},
		"an empty token beside one": {"access_token=good-alice&access_token=", 401, "the query parameter access_token is empty"},
		"> before the end":          {"topic=a.%3E.b", 400, "not the last token"},
		"a hundred":                 {many(100), 200, ""},
		"a hundred and one":         {many(101), 400, "topic is given 101 times; want at most 100"},
		"ten thousand":              {many(10_000), 400, "the query has 10001 parameters; want at most 100 topics"},
		"a thousand":                {many(999), 400, "topic is given 999 times"},
		"the same thousand":         {"topic=news" + strings.Repeat("&topic=news", 999), 200, ""},
		"a malformed query":         {"topic=%zz", 400, "query"},
		"a malformed id":            {"last_event_id=nonsense", 400, `last_event_id is "nonsense"`},
		"a negative id":             {"last_event_id=e--1", 400, "last_event_id is"},
		"an id with a leading zero": {"last_event_id=e-01", 400, "last_event_id is"},
		"an id that is too large":   {"last_event_id=e-18446744073709551616", 400, "last_event_id is"},
		"a very long id":            {"last_event_id=" + strings.Repeat("x", 5000) + "-1", 400, "last_event_id is"},
		"an id with LF":             {"last_event_id=e%0A-1", 400, "last_event_id is"},
		"an empty id":               {"last_event_id=", 200, ""},
		"two different ids":         {"last_event_id=e-1&last_event_id=e-2", 400, "two different values for last_event_id"},
		"one id twice":              {"last_event_id=e-1&last_event_id=e-1&last_event_id=", 200, ""},
		"since nothing":             {"since=", 400, `since is ""; want all, a duration such as 10m, a time such as`},
		"since a word":              {"since=yesterday", 400, `since is "yesterday"; want all,`},
		"since ALL":                 {"since=ALL", 400, `since is "ALL"`},
		"since a number":            {"since=90", 400, `since is "90"`},
		"since zero":                {"since=0s", 400, `since is "0s"`},
		"since a negative duration": {"since=-90s", 400, `since is "-90s"`},
		"since a signed duration":   {"since=%2B90s", 400, `since is "+90s"`},
		"since too long ago":        {"since=9999999h", 400, `since is "9999999h"`},
		"since a date":              {"since=2026-11-27", 400, `since is "2026-11-27"`},
		"since a local time":        {"since=2026-11-27T09:30:00", 400, `since is "2026-11-27T09:30:00"`},
		"since the 31st":            {"since=2026-11-31T09:30:00Z", 400, `since is "2026-11-31T09:30:00Z"`},
		"since a + not encoded":     {"since=2026-11-27T09:30:00+01:00", 400, `since is "2026-11-27T09:30:00 01:00"; want all`},
		"since a + encoded":         {"since=2026-11-27T09:30:00.5%2B01:00", 200, ""},
		"since not UTF-8":           {"since=%FF", 400, `since is "\xff"`},
		"since LF":                  {"since=all%0A", 400, `since is "all\n"`},
		"since a long text":         {"since=" + strings.Repeat("x", 100), 400, "since is \"xxx"},
		"since a duration":          {"since=1h30m", 200, ""},
		"since an id":               {"since=e-1", 200, ""},
		"since all twice":           {"since=all&since=all", 200, ""},
		"since two times":           {"since=all&since=10m", 400, "two different values for since; want one"},
		"rewind nothing":            {"rewind=", 400, `rewind is ""; want the number of events to start with, from 1 to 1000`},
		"rewind 0":                  {"rewind=0", 400, `rewind is "0"; want`},
		"rewind -1":                 {"rewind=-1", 400, `rewind is "-1"; want`},
		"rewind +1":                 {"rewind=%2B1", 400, `rewind is "+1"; want`},
		"rewind 01":                 {"rewind=01", 400, `rewind is "01"; want`},
		"rewind 1":                  {"rewind=1", 200, ""},
		"rewind 1000":               {"rewind=1000", 200, ""},
		"rewind 1001":               {"rewind=1001", 400, `rewind is "1001"; want`},
		"rewind a huge number":      {"rewind=18446744073709551617", 400, `rewind is "18446744073709551617"; want`},
		"rewind a fraction":         {"rewind=1.5", 400, `rewind is "1.5"; want`},
		"rewind two numbers":        {"rewind=1&rewind=2", 400, "two different values for rewind"},
		"since and rewind":          {"since=all&rewind=1", 400, "the query has since and rewind; want at most one of last_event_id, since and rewind"},
		"since and an id":           {"since=all&last_event_id=e-1", 400, "the query has last_event_id and since; want"},
		"rewind and an id":          {"rewind=1&last_event_id=e-1", 400, "the query has last_event_id and rewind; want"},
		"since and an empty id":     {"since=all&last_event_id=", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			resp := s.request(t, "GET", "/events?"+c.query, "Accept: text/event-stream")
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			if c.want == "" {
				return
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || !strings.Contains(string(body), c.want) || strings.Count(string(body), "\n") != 1 || len(body) > 300 {
				t.Errorf("body %q (%v), want one line with %q", body, err, c.want)
			}
		})
	}
}

func TestResume(t *testing.T) { onAll(t, testResume) }

func testResume(t *testing.T, via path) {
	for name, c := range map[string]struct {
		query   string
		headers []string
		replay  string // the data of the replayed events
		reset   string // the reason of a reset
	}{
		"by header":                        {"", []string{"Last-Event-ID: EPOCH-1"}, "two six", ""},
		"by query":                         {"last_event_id=EPOCH-1", nil, "two six", ""},
		"the header wins":                  {"last_event_id=EPOCH-1", []string{"Last-Event-ID: EPOCH-6"}, "", ""},
		"the header wins over a bad query": {"last_event_id=nonsense", []string{"Last-Event-ID: EPOCH-5"}, "six", ""},
		"with a user":                      {"access_token=good-alice", []string{"Last-Event-ID: EPOCH-1"}, "two three six", ""},
		"with topics":                      {"access_token=good-alice&topic=news&topic=orders.*", []string{"Last-Event-ID: EPOCH-1"}, "two three four five six", ""},
		"nothing missed":                   {"", []string{"Last-Event-ID: EPOCH-6"}, "", ""},
		"a new page":                       {"", nil, "", ""},
		"too old":                          {"", []string{"Last-Event-ID: EPOCH-0"}, "", "expired"},
		"of another epoch":                 {"", []string{"Last-Event-ID: other-3"}, "", "unknown"},
		"not yet assigned":                 {"last_event_id=EPOCH-7", nil, "", "unknown"},
		"a malformed header":               {"", []string{"Last-Event-ID: nonsense"}, "", "unknown"},
		"a header twice":                   {"", []string{"Last-Event-ID: EPOCH-5", "Last-Event-ID: EPOCH-5"}, "six", ""},
		"two headers":                      {"", []string{"Last-Event-ID: EPOCH-5", "Last-Event-ID: EPOCH-1"}, "", "unknown"},
		"two headers, one empty":           {"", []string{"Last-Event-ID: ", "Last-Event-ID: EPOCH-5"}, "six", ""},
		"a list in a header":               {"", []string{"Last-Event-ID: EPOCH-5, EPOCH-1"}, "", "unknown"},
		"a header not UTF-8":               {"", []string{"Last-Event-ID: \xff"}, "", "unknown"},
		"a very long header":               {"", []string{"Last-Event-ID: " + strings.Repeat("x", 10_000)}, "", "unknown"},
		"JSON in a header":                 {"", []string{`Last-Event-ID: "}`}, "", "unknown"},
		"since all":                        {"since=all", nil, "two six", ""},
		"since all, with a user":           {"since=all&access_token=good-alice&topic=orders.*", nil, "two three five six", ""},
		"since before the daemon started":  {"since=1h&access_token=good-alice&topic=news", nil, "two three four six", "expired"},
		"since a time long ago":            {"since=2000-01-01T00:00:00Z", nil, "two six", "expired"},
		"since a time in the future":       {"since=2200-01-01T00:00:00%2B01:00", nil, "", ""},
		"since an id":                      {"since=EPOCH-2", nil, "six", ""},
		"since an id that is too old":      {"since=EPOCH-0", nil, "", "expired"},
		"the header wins over since":       {"since=all", []string{"Last-Event-ID: EPOCH-5"}, "six", ""},
		"the header wins over bad starts":  {"since=x&rewind=0", []string{"Last-Event-ID: EPOCH-5"}, "six", ""},
		"rewind":                           {"rewind=1", nil, "six", ""},
		"rewind, with a user and topics":   {"rewind=3&access_token=good-alice&topic=news", nil, "three four six", ""},
		"rewind, with a pattern":           {"rewind=4&access_token=good-alice&topic=news&topic=orders.*", nil, "three four five six", ""},
		"rewind to the start":              {"rewind=1000", nil, "two six", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, via, withHistory)
			first := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "one"})
			for _, m := range []broker.Message{
				{Audience: broker.Everyone(), Data: "two"},
				{Audience: broker.ToUser("alice"), Data: "three"},
				{Audience: broker.ToTopic("news"), Data: "four"},
				{Audience: broker.ToTopic("orders.new"), Data: "five"},
				{Audience: broker.Everyone(), Data: "six"},
			} {
				s.publish(t, m)
			}
			epoch, _, _ := strings.Cut(first.ID, "-")
			for i := range c.headers {
				c.headers[i] = strings.ReplaceAll(c.headers[i], "EPOCH", epoch)
			}
			resp := s.request(t, "GET", "/events?"+strings.ReplaceAll(c.query, "EPOCH", epoch), append(c.headers, "Accept: text/event-stream")...)
			if resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
			body := bufio.NewReader(resp.Body)
			greeting := block(t, body)
			if c.reset == "" && !strings.Contains(greeting, "\nevent: peald.mark\nid: "+epoch+"-") ||
				c.reset != "" && !strings.Contains(greeting, "event: peald.reset\ndata: {\"reason\":\""+c.reset+"\",\"last_event_id\":") {
				t.Errorf("the first block is %q", greeting)
			}
			s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "the end"})
			var replayed []string
			for {
				_, data, _ := strings.Cut(block(t, body), "\ndata: ")
				if data = strings.TrimSpace(data); data == "the end" {
					break
				}
				replayed = append(replayed, data)
			}
			if got := strings.Join(replayed, " "); got != c.replay {
				t.Errorf("replayed %q, want %q", got, c.replay)
			}
		})
	}
}

func TestBannedUser(t *testing.T) { onAll(t, testBannedUser) }

func testBannedUser(t *testing.T, via path) {
	s := start(t, via, nil)
	resp := s.request(t, "GET", "/events?access_token=good-alice")
	block(t, bufio.NewReader(resp.Body))
	const ban = 300 * time.Millisecond
	begun := time.Now()
	if n, err := s.broker.Disconnect("alice", ban); n != 1 || err != nil {
		t.Fatalf("disconnected %d streams, error %v", n, err)
	}

	if rest, err := io.ReadAll(resp.Body); err != nil || strings.Contains(string(rest), "data:") {
		t.Errorf("the stream ends with %q and error %v", rest, err)
	}

	for _, headers := range [][]string{{"Authorization: Bearer good-alice"}, {"Authorization: Bearer good-alice", "Accept: text/event-stream"}} {
		resp := s.request(t, "GET", "/events", headers...)
		if body, err := io.ReadAll(resp.Body); time.Since(begun) < ban && (resp.StatusCode != http.StatusNoContent || len(body) > 0 || err != nil) {
			t.Errorf("alice got %s and %q (%v), want 204 and no body", resp.Status, body, err)
		}
	}

	if resp := s.request(t, "GET", "/events?access_token=good-bob"); resp.StatusCode != http.StatusOK {
		t.Errorf("bob got %s, want 200", resp.Status)
	}

	waitFor(t, "the end of the ban", func() bool {
		return s.request(t, "GET", "/events?access_token=good-alice").StatusCode == http.StatusOK
	})

	if passed := time.Since(begun); passed < ban {
		t.Errorf("alice got a stream after %s, want none for %s", passed, ban)
	}
}

func TestEndedTopic(t *testing.T) { onAll(t, testEndedTopic) }

// testEndedTopic checks that a stream for a topic that has ended is closed after the
// event peald.end, and that a client that reconnects gets 204.
func testEndedTopic(t *testing.T, via path) {
	s := start(t, via, func(_ *ssehttp.Config, b *broker.Config) {
		b.History = broker.History{MaxEvents: 100, MaxBytes: 1 << 20}
	})
	end := broker.Message{Audience: broker.ToTopic("news"), Data: "bye", Final: true}
	open := s.request(t, "GET", "/events?topic=news&access_token=good-alice")
	reader := bufio.NewReader(open.Body)
	block(t, reader)
	receipt, err := s.broker.Publish(t.Context(), end)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(reader)
	if want := "id: " + receipt.ID + "\nevent: topic\ndata: bye\n\nevent: peald.end\ndata: {\"topic\":\"news\"}\n\nretry: "; err != nil || !strings.HasPrefix(string(rest), want) {
		t.Errorf("the stream ends with %q and error %v; want %q", rest, err, want)
	}

	again := s.request(t, "GET", "/events?topic=news&access_token=good-alice", "Last-Event-ID: "+receipt.ID)
	if body, err := io.ReadAll(again.Body); again.StatusCode != http.StatusNoContent || len(body) > 0 || err != nil {
		t.Errorf("a client that reconnects got %s and %q (%v), want 204 and no body", again.Status, body, err)
	}
	if resp := s.request(t, "GET", "/events?topic=news&topic=orders.new&access_token=good-alice", "Last-Event-ID: "+receipt.ID); resp.StatusCode != http.StatusOK {
		t.Errorf("with another topic, got %s, want 200", resp.Status)
	}
	fresh := s.request(t, "GET", "/events?topic=news&access_token=good-alice")
	if body, err := io.ReadAll(fresh.Body); err != nil || !strings.Contains(string(body), "event: peald.end\n") {
		t.Errorf("a new stream got %q and error %v", body, err)
	}
	reopened := end
	reopened.Final = false
	if _, err := s.broker.Publish(t.Context(), reopened); err != nil {
		t.Fatal(err)
	}
	if resp := s.request(t, "GET", "/events?topic=news&access_token=good-alice", "Last-Event-ID: "+receipt.ID); resp.StatusCode != http.StatusOK {
		t.Errorf("after the topic was reopened, got %s, want 200", resp.Status)
	}
}
