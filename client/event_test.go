package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/peald/peald/client"
)

func enveloped(eventType, data string) reply {
	return reply{body: "id: a-1\nevent: " + eventType + "\ndata: " + data + "\n\n"}
}

func TestEnvelopes(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 30, 0, 482910331, time.UTC)
	const tail = `"event":"x","data":"a\nb","time":"2026-11-27T09:30:00.482910331Z"}`
	for text, want := range map[string]client.Event{
		`{"topic":"orders.7",` + tail:            {Audience: client.ToTopic, Topic: "orders.7"},
		`{"user":true,` + tail:                   {Audience: client.ToUser},
		`{"broadcast":true,"user":false,` + tail: {Audience: client.ToEveryone},
		`{"broadcast":true,"later":[{}],` + tail: {Audience: client.ToEveryone},
	} {
		synctest.Test(t, func(t *testing.T) {
			want.ID, want.Type, want.Data, want.Time, want.Retained = "a-1", "x", "a\nb", at, true
			for got, err := range (&server{replies: []reply{enveloped("x", text), ended()}}).subscribe(t, client.WithEnvelope()).Events() {
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %+v, error %v, want %+v", text, got, err, want)
				}
			}
		})
	}
}

// TestMalformedEvents checks that malformed data ends an iteration with an error that
// shows it, and that the position stays before it.
func TestMalformedEvents(t *testing.T) {
	const valid = `"event":"x","data":"d","time":"2026-11-27T09:30:00Z"}`
	for _, test := range []struct{ eventType, data, want string }{
		{"x", "plain", "want a JSON object"},
		{"x", `{` + valid, "the envelope has 0 audiences"},
		{"x", `{"topic":"t","broadcast":true,` + valid, "the envelope has 2 audiences"},
		{"x", `{"user":false,` + valid, "the envelope has 0 audiences"},
		{"x", `{"user":1,` + valid, "want a JSON object"},
		{"x", `{"topic":"t","topic":"t",` + valid, "duplicate"},
		{"x", `{"topic":"\ud800",` + valid, "surrogate"},
		{"x", `{"Topic":"t",` + valid, "the envelope has 0 audiences"},
		{"x", `{"topic":"t","event":"x","data":null,"time":"2026-11-27T09:30:00Z"}`, `want an envelope with "event", "data" and "time"`},
		{"x", `{"topic":"t","event":"x","data":"d","time":"yesterday"}`, "want a JSON object"},
		{"y", `{"topic":"t",` + valid, `the envelope is for the type "x"`},
		{"x", `{"topic":"t",` + valid + "{}", "want a JSON object"},
		{"peald.reset", `{"reason":"x"}`, `want an object with "reason" and "last_event_id"`},
		{"peald.reset", `[]`, "want a JSON object"},
		{"peald.end", `{}`, `want an object with "topic"`},
		{"peald.end", strings.Repeat("é", 200), "é…"},
	} {
		synctest.Test(t, func(t *testing.T) {
			sub := (&server{replies: []reply{enveloped(test.eventType, test.data)}}).subscribe(t, client.WithEnvelope(), client.WithPosition("a-0"))
			_, err := collect(sub)
			malformed, ok := errors.AsType[*client.MalformedEventError](err)
			if !ok || !strings.Contains(err.Error(), test.want) || malformed.ID != "a-1" || malformed.Type != test.eventType || len(malformed.Data) > 103 || !utf8.ValidString(malformed.Data) {
				t.Errorf("%s: error %v, want %q", test.data, err, test.want)
			}
			if sub.Position() != "a-0" {
				t.Errorf("%s: position %q", test.data, sub.Position())
			}
		})
	}
}

// TestOtherServerEvents checks that unknown types of the server are passed on without an
// envelope.
func TestOtherServerEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events, err := collect((&server{replies: []reply{enveloped("peald.new", "x"), ended()}}).subscribe(t, client.WithEnvelope()))
		if err != nil || len(events) != 1 || events[0] != "a-1 peald.new x" {
			t.Errorf("got %q, error %v", events, err)
		}
	})
}

// FuzzEnvelope checks that an accepted envelope is JSON with exactly the event's fields.
func FuzzEnvelope(f *testing.F) {
	f.Add("x", `{"topic":"t","event":"x","data":"d","time":"2026-11-27T09:30:00Z"}`)
	f.Add("peald.reset", `{"reason":"expired","last_event_id":"a-1"}`)
	f.Add("peald.end", `{"topic":"t"}`)
	f.Add("x", `{"user":true,"event":"x","data":"\ud83e\udd8a","time":"2026-11-27T09:30:00+24:00"}`)
	f.Fuzz(func(t *testing.T, eventType, data string) {
		if strings.ContainsAny(eventType+data, "\r\n") || eventType == "peald.mark" {
			t.Skip()
		}
		var got []client.Event
		s := &server{replies: []reply{enveloped(eventType, data)}}
		for event, err := range s.subscribe(t, client.WithEnvelope(), client.WithoutReconnect()).Events() {
			if err == nil {
				got = append(got, event)
			}
		}
		if len(got) == 0 {
			return
		}
		e := got[0]
		var members map[string]any
		if strings.HasPrefix(e.Type, "peald.") && e.Reset == nil && e.End == nil {
			return
		}
		if err := json.Unmarshal([]byte(data), &members); err != nil {
			t.Fatalf("accepted %q: %v", data, err)
		}
		switch {
		case e.Reset != nil && (members["reason"] != e.Reset.Reason || members["last_event_id"] != e.Reset.LastEventID):
			t.Errorf("%q: reset %+v", data, e.Reset)
		case e.End != nil && members["topic"] != e.End.Topic:
			t.Errorf("%q: end %+v", data, e.End)
		case e.Reset == nil && e.End == nil && (members["data"] != e.Data || members["event"] != e.Type || e.Audience == client.Unknown):
			t.Errorf("%q: event %+v", data, e)
		}
	})
}

// TestMaxEventSize checks the limit on events that end and on those that don't.
func TestMaxEventSize(t *testing.T) {
	const limit = 10_000
	for name, test := range map[string]struct {
		stream string
		large  bool
	}{
		"at the limit":       {"data: " + strings.Repeat("x", limit) + "\n\n", false},
		"above the limit":    {"data: " + strings.Repeat("x", limit+1) + "\n\n", true},
		"many lines":         {strings.Repeat("data: x\n", limit/2) + "\n", false},
		"too many lines":     {strings.Repeat("data: x\n", limit) + "\n", true},
		"a line without end": {"data: " + strings.Repeat("x", 3*limit), true},
		"an endless comment": {": " + strings.Repeat("x", 3*limit), true},
		"an endless id":      {"id: " + strings.Repeat("x", 3*limit), true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{replies: []reply{{body: "id: a-1\ndata: 1\n\n" + test.stream, hangs: test.large}, ended()}}
			events, err := collect(s.subscribe(t, client.WithMaxEventSize(limit)))
			large, ok := errors.AsType[*client.EventTooLargeError](err)
			if ok != test.large || (err == nil) == test.large || len(events) == 0 {
				t.Fatalf("%s: %d events, error %v", name, len(events), err)
			}
			if ok && (large.Limit != limit || large.Position != "a-1" || !strings.Contains(err.Error(), `after position "a-1" has more than 10000 bytes`)) {
				t.Errorf("%s: error %v", name, err)
			}
		})
	}
}

func TestAudiences(t *testing.T) {
	if got := fmt.Sprint(client.Unknown, client.ToTopic, client.ToUser, client.ToEveryone); got != "unknown topic user everyone" {
		t.Errorf("audiences %q", got)
	}
}
