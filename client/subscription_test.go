package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/client"
)

// TestEvents reads all kinds of blocks, in pieces of every size.
func TestEvents(t *testing.T) {
	const stream = "retry: 10\n\n" +
		"id: a-1\nevent: topic\ndata: kept\n\n" +
		"event: peald.mark\nid: a-1\ndata:\n\n" +
		": comment\n\n" +
		"id: a-2\nevent: broadcast\ndata: one\ndata: two\n\n" +
		"id: a-3\ndata:\n\n" +
		"event: peald.end\ndata: {\"topic\":\"t\"}\n\n" +
		"id: a-5\nevent: peald.reset\ndata: {\"reason\":\"overflow\",\"last_event_id\":\"a-3\"}\n\n" +
		"id: a-6\n\n" +
		"id: a-7\ndata: incomplete\n"
	want := []string{
		"*a-1 topic kept", "a-2 broadcast one\ntwo", "a-3 message ", `a-3 peald.end {"topic":"t"}`,
		`a-5 peald.reset {"reason":"overflow","last_event_id":"a-3"}`,
	}
	synctest.Test(t, func(t *testing.T) {
		for piece := range len(stream) {
			s := &server{replies: []reply{{body: stream, piece: piece}, ended()}}
			sub := s.subscribe(t)
			events, err := collect(sub)
			if err != nil || !slices.Equal(events, want) {
				t.Fatalf("in pieces of %d: got %q, error %v, want %q", piece, events, err, want)
			}
			if ids := s.lastEventIDs(); !slices.Equal(ids, []string{"", "a-6"}) || sub.Position() != "a-6" {
				t.Fatalf("in pieces of %d: Last-Event-IDs %q and position %q, want a-6", piece, ids, sub.Position())
			}
		}
	})
}

func TestTypedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{replies: []reply{{body: "event: peald.reset\ndata: {\"reason\":\"expired\",\"last_event_id\":\"a-1\",\"new\":1}\n\nid: a-9\ndata: kept\n\nevent: peald.end\ndata: {\"topic\":\"x\"}\n\n"}, ended()}}
		var got []client.Event
		for event, err := range s.subscribe(t).Events() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, event)
		}
		if len(got) != 3 || *got[0].Reset != (client.Reset{Reason: "expired", LastEventID: "a-1"}) || !got[1].Retained || *got[2].End != (client.End{Topic: "x"}) {
			t.Errorf("got %+v", got)
		}
	})
}

// TestRetained checks which events count as retained values: those before the first
// mark, if the stream doesn't start with a position.
func TestRetained(t *testing.T) {
	const value, mark = "id: a-1\ndata: x\n\n", "event: peald.mark\nid: a-1\ndata:\n\n"
	for name, test := range map[string]struct {
		stream string
		want   []bool
	}{
		"before the mark":                {value + value + mark + value, []bool{true, true, false}},
		"after a reset with a position":  {"id: a-0\nevent: peald.reset\ndata: {\"reason\":\"unknown\",\"last_event_id\":\"\"}\n\n" + value, []bool{false, false}},
		"after a reset without one":      {"event: peald.reset\ndata: {\"reason\":\"unknown\",\"last_event_id\":\"\"}\n\n" + value + mark + value, []bool{false, true, false}},
		"after an overflow":              {value + "event: peald.reset\ndata: {\"reason\":\"overflow\",\"last_event_id\":\"\"}\n\n" + value, []bool{true, false, false}},
		"mark without an id, no history": {"event: peald.mark\ndata:\n\n" + value, []bool{false}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got []bool
			for event, err := range (&server{replies: []reply{{body: test.stream}, ended()}}).subscribe(t).Events() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, event.Retained)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: retained %t, want %t", name, got, test.want)
			}
		})
	}
}

// TestPosition checks that a position is that of the event in the loop, and that a
// second iteration continues there.
func TestPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{replies: []reply{{body: "id: a-1\ndata: 1\n\nid: a-2\ndata: 2\n\n"}, {body: "id: a-2\ndata: 2\n\n"}, ended()}}
		sub := s.subscribe(t, client.WithPosition("a-0"))
		if p := sub.Position(); p != "a-0" {
			t.Errorf("position %q before the first event", p)
		}
		for event := range sub.Events() {
			if sub.Position() != event.ID {
				t.Errorf("position %q during event %q", sub.Position(), event.ID)
			}
			break
		}
		if events, err := collect(sub); err != nil || !slices.Equal(events, []string{"*a-2 message 2"}) {
			t.Errorf("the second iteration got %q, error %v", events, err)
		}
		if ids := s.lastEventIDs(); !slices.Equal(ids, []string{"a-0", "a-1", "a-2"}) {
			t.Errorf("Last-Event-IDs %q", ids)
		}
	})
}

// TestIDReset checks that an empty id clears the position, as the standard requires,
// and that a stream without ids keeps the earlier position.
func TestIDReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{replies: []reply{{body: "id: a-1\ndata: 1\n\n"}, {body: "data: 2\n\n"}, {body: "id\ndata: 3\n\n"}, ended()}}
		events, err := collect(s.subscribe(t))
		if ids := s.lastEventIDs(); err != nil || !slices.Equal(ids, []string{"", "a-1", "a-1", ""}) {
			t.Errorf("events %q, error %v, Last-Event-IDs %q", events, err, ids)
		}
	})
}

func TestOneIteration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub := (&server{replies: []reply{{body: "data: x\n\n"}, ended()}}).subscribe(t)
		for range sub.Events() {
			if _, err := collect(sub); !errors.Is(err, client.ErrIterating) {
				t.Errorf("a second iteration: error %v", err)
			}
		}
	})
}

// TestContext ends iterations by their context: while connecting, reading and waiting.
func TestContext(t *testing.T) {
	for name, only := range map[string]reply{
		"connecting": {after: time.Hour}, "reading": {body: "data: x\n\n", hangs: true}, "waiting": {err: errBroken},
	} {
		synctest.Test(t, func(t *testing.T) {
			why := errors.New("why")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(why) })
			sub, err := client.Subscribe(ctx, streamURL, client.WithHTTPClient(&http.Client{Transport: &server{replies: []reply{only}}}), client.WithBackoff(time.Hour, time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := collect(sub); !errors.Is(err, why) || time.Since(start) != time.Second {
				t.Errorf("%s: error %v after %s", name, err, time.Since(start))
			}
		})
	}
}

func TestStatuses(t *testing.T) {
	for _, test := range []struct {
		reply reply
		want  []string // parts of the error; nil if the iteration goes on
	}{
		{reply{status: 400, body: "topic \"\" is empty\nmore"}, []string{"https://sse.example/events: rejected with 400 Bad Request: topic \"\" is empty"}},
		{reply{status: 401, body: "no token"}, []string{"401 Unauthorized: no token"}},
		{reply{status: 403}, []string{"403 Forbidden"}},
		{reply{status: 404, body: strings.Repeat("x", 5000)}, []string{"404 Not Found: " + strings.Repeat("x", 1024)}},
		{reply{status: 429, body: "too many streams"}, []string{"429 Too Many Requests: too many streams"}},
		{reply{status: 202}, []string{"202 Accepted"}},
		{reply{header: http.Header{"Content-Type": {"text/html"}}}, []string{`not an event stream: Content-Type is "text/html"`}},
		{reply{status: 429, header: http.Header{"Retry-After": {"3"}}}, nil},
		{reply{status: 408}, nil},
		{reply{status: 500}, nil},
		{reply{status: 503, header: http.Header{"Retry-After": {"soon"}}}, nil},
		{reply{err: errBroken}, nil},
		{reply{then: io.ErrUnexpectedEOF}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{replies: []reply{test.reply, {body: "data: x\n\n"}, ended()}}
			events, err := collect(s.subscribe(t))
			if test.want == nil {
				if err != nil || len(events) != 1 {
					t.Errorf("%+v: events %q, error %v", test.reply, events, err)
				}
				return
			}
			if err == nil || len(s.requests) != 1 || len(events) != 0 {
				t.Fatalf("%+v: %d requests, error %v", test.reply, len(s.requests), err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%+v: error %q, want %q", test.reply, err, part)
				}
			}
			if status, ok := errors.AsType[*client.StatusError](err); ok != (test.reply.status != 0) || ok && status.StatusCode != test.reply.status {
				t.Errorf("%+v: error %#v", test.reply, err)
			}
		})
	}
}

// TestSecrets checks that errors don't contain tokens and passwords.
func TestSecrets(t *testing.T) {
	for _, only := range []reply{{status: 403}, {err: errBroken}, {header: http.Header{"Content-Type": {"x"}}}} {
		sub, err := client.Subscribe(t.Context(), "http://alice:s3cret@sse.example/events?access_token=s3cret#s3cret",
			client.WithHTTPClient(&http.Client{Transport: &server{replies: []reply{only}}}), client.WithoutReconnect(),
			client.WithHeader(http.Header{"X-Key": {"s3cret"}}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := collect(sub); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "http://sse.example/events: ") {
			t.Errorf("error %v", err)
		}
	}
}

func TestWithoutReconnect(t *testing.T) {
	for only, want := range map[*reply]error{
		{body: "data: x\n\n"}:                  client.ErrClosed,
		{body: "data: x\n\n", then: errBroken}: errBroken,
	} {
		s := &server{replies: []reply{*only}}
		events, err := collect(s.subscribe(t, client.WithoutReconnect()))
		if len(events) != 1 || !errors.Is(err, want) || len(s.requests) != 1 {
			t.Errorf("%d requests, %d events, error %v, want %v", len(s.requests), len(events), err, want)
		}
	}
}
