package ssehttp_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// TestEnvelopes reads events in envelopes, live and after a resume, with and without
// compression. A stream without them gets bare events.
func TestEnvelopes(t *testing.T) { onAll(t, testEnvelopes) }

func testEnvelopes(t *testing.T, via path) {
	s := start(t, via, func(c *ssehttp.Config, b *broker.Config) {
		withCompression(c, b)
		c.AnonymousTopics = []string{">"}
	})
	first := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "first"}).ID
	const target = "/events?topic=orders.*&access_token=good-alice"
	bodies := map[string]*bufio.Reader{}
	for name, query := range map[string]string{
		"bare": "", "envelope=0": "&envelope=0", "envelope=1": "&envelope=1", "envelope=true": "&envelope=true&envelope=true",
	} {
		for _, coding := range []string{"identity", "gzip"} {
			body := decoded(t, s.request(t, http.MethodGet, target+query, "Accept-Encoding: "+coding))
			if got := block(t, body); !strings.HasSuffix(got, "\nevent: peald.mark\nid: "+first+"\ndata:\n\n") {
				t.Errorf("%s, %s: the first block is %q", name, coding, got)
			}
			bodies[name+" "+coding] = body
		}
	}

	data := "two\nlines " + strings.Repeat("x", 1000)
	topic := s.publish(t, broker.Message{Audience: broker.ToTopic("orders.7"), Data: data}).ID
	user := s.publish(t, broker.Message{Audience: broker.ToUser("alice"), Event: "paid", Data: "7"}).ID
	all := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "all"}).ID
	bodies["envelope=1 resumed"] = decoded(t, s.request(t, http.MethodGet, target+"&envelope=1", "Last-Event-ID: "+first))
	block(t, bodies["envelope=1 resumed"])

	for name, body := range bodies {
		for _, want := range []struct{ id, typ, data, audience string }{
			{topic, "topic", data, `{"topic":"orders.7",`}, {user, "paid", "7", `{"user":true,`}, {all, "broadcast", "all", `{"broadcast":true,`},
		} {
			got := block(t, body)
			head := "id: " + want.id + "\nevent: " + want.typ + "\ndata: "
			if !strings.Contains(name, "envelope=1") && !strings.Contains(name, "true") {
				if got != head+strings.ReplaceAll(want.data, "\n", "\ndata: ")+"\n\n" {
					t.Errorf("%s: got %.100q", name, got)
				}
				continue
			}
			line, ok := strings.CutPrefix(strings.TrimSuffix(got, "\n\n"), head)
			var in struct{ Data string }
			if err := json.Unmarshal([]byte(line), &in); err != nil || !ok || !strings.HasPrefix(line, want.audience) || in.Data != want.data {
				t.Errorf("%s: got %.100q (%v)", name, got, err)
			}
		}
	}
}

// TestEnvelopesInPolls compares the events that polls get, at once and after a wait, with
// the envelopes in a stream. The end of a topic has neither an audience nor a time.
func TestEnvelopesInPolls(t *testing.T) { onBoth(t, testEnvelopesInPolls) }

func testEnvelopesInPolls(t *testing.T, via path) {
	s := start(t, via, func(c *ssehttp.Config, b *broker.Config) {
		keepingHistory(c, b)
		c.AnonymousTopics = []string{">"}
	})
	const target = "topic=orders.*&topic=news&access_token=good-alice&envelope=1"
	position := s.poll(t, target).Position
	stream := bufio.NewReader(s.request(t, http.MethodGet, "/events?"+target).Body)
	block(t, stream)

	for i, m := range []broker.Message{
		{Audience: broker.ToTopic("orders.7"), Data: "two\nlines"},
		{Audience: broker.ToUser("alice"), Event: "paid", Data: "7"},
		{Audience: broker.Everyone(), Data: "all"},
		{Audience: broker.ToTopic("news"), Data: "last", Final: true},
	} {
		waiting := s.wait(t, target+"&wait=1m&last_event_id="+position)
		s.publish(t, m)
		_, line, _ := strings.Cut(block(t, stream), "\ndata: ")

		for name, got := range map[string]*polled{"waited": <-waiting, "at once": s.poll(t, target+"&last_event_id="+position)} {
			e := got.Events[0]
			again, err := json.Marshal(e.envelope)
			if err != nil || string(again) != strings.TrimSuffix(line, "\n\n") || e.Time == "" {
				t.Errorf("message %d, %s: got %s (%v), want %s", i, name, again, err, line)
			}
			if m.Final && (len(got.Events) != 2 || got.Events[1].envelope != envelope{Topic: "news", Event: "peald.end", Data: `{"topic":"news"}`}) {
				t.Errorf("%s: the end is %+v", name, got.Events)
			}
			position = got.Position
		}
	}

	for _, e := range s.poll(t, "topic=orders.*&access_token=good-alice&since=all").Events {
		if e.Time != "" || e.User || e.Broadcast {
			t.Errorf("without an envelope: %+v", e)
		}
	}
}

// TestEnvelopeParameter checks which values of envelope are accepted.
func TestEnvelopeParameter(t *testing.T) { onBoth(t, testEnvelopeParameter) }

func testEnvelopeParameter(t *testing.T, via path) {
	s := start(t, via, nil)
	for query, want := range map[string]struct {
		accept string
		status int
		text   string // part of the body
	}{
		"envelope=1":            {"text/event-stream", 200, ""},
		"envelope=false":        {"text/event-stream", 200, ""},
		"envelope=1&envelope=1": {"*/*", 200, ""},
		"envelope=2":            {"text/event-stream", 400, `envelope is "2"; want 1 or true`},
		"envelope=":             {"text/event-stream", 400, `envelope is ""; want 1 or true`},
		"envelope":              {"text/event-stream", 400, `envelope is ""; want 1 or true`},
		"envelope=yes":          {"text/event-stream", 400, `envelope is "yes"`},
		"envelope=1&envelope=0": {"text/event-stream", 400, "two different values for envelope; want one"},
		"envelope=1&wait=x":     {"application/json", 400, "wait is"},
		"envelope=1&since=all":  {"application/json", 200, ""},
		"envelope=0&since=all":  {"application/json", 200, ""},
		"envelope=x&since=all":  {"application/json", 400, `envelope is "x"`},
		"envelopes=x":           {"text/event-stream", 200, ""},
		"envelope=1&%zz":        {"text/event-stream", 400, "malformed query"},
	} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			resp := s.request(t, method, "/events?"+query, "Accept: "+want.accept)
			if resp.StatusCode != want.status {
				t.Errorf("%s %s: status %d, want %d", method, query, resp.StatusCode, want.status)
			}
			if method == http.MethodGet && want.status != http.StatusOK {
				if got := read(t, resp); !strings.Contains(got, want.text) {
					t.Errorf("%s: got %q, want %q", query, got, want.text)
				}
			}
			resp.Body.Close()
		}
	}
}
