package client_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/client"
	"github.com/peald/peald/internal/eventstream"
)

// faultyServer is a transport that breaks off its streams at any byte, and replies with
// all kinds of errors. It publishes events at random times and keeps only the last few.
type faultyServer struct {
	t         *rapid.T
	total     int // events to publish
	published int
	keeps     int // events in the history
	faults    int // left
	requests  int
	values    bool // fresh streams start with the retained value of the first event
}

// RoundTrip implements [http.RoundTripper].
func (s *faultyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests++
	last := r.Header.Get("Last-Event-ID")
	s.published = min(s.total, s.published+rapid.IntRange(0, 10).Draw(s.t, "published"))
	if s.faults--; s.faults < 0 {
		s.published = s.total
		if last == eventID(s.total) {
			return ended().to(r)
		}
		return reply{body: s.stream(last)}.to(r)
	}

	switch rapid.IntRange(0, 9).Draw(s.t, "fault") {
	case 0:
		return reply{err: errBroken}.to(r)
	case 1:
		status := rapid.SampledFrom([]int{408, 500, 502, 503, 504}).Draw(s.t, "status")
		return reply{status: status, header: http.Header{"Retry-After": {"1"}}}.to(r)
	case 2:
		refusal := eventstream.AppendRetry(nil, time.Second)
		if last != "" {
			refusal = eventstream.AppendID(refusal, last)
		}
		return reply{body: string(eventstream.AppendEnd(refusal))}.to(r)
	case 3:
		return reply{after: time.Hour}.to(r) // no response
	}

	stream := s.stream(last)
	return reply{
		body:  stream[:rapid.IntRange(0, len(stream)).Draw(s.t, "cut")],
		then:  rapid.SampledFrom([]error{nil, io.ErrUnexpectedEOF, errBroken}).Draw(s.t, "then"),
		hangs: rapid.Bool().Draw(s.t, "hangs"),
		piece: rapid.SampledFrom([]int{0, 1, 7, 100}).Draw(s.t, "piece"),
		after: time.Duration(rapid.IntRange(0, 40).Draw(s.t, "after")) * time.Second,
	}.to(r)
}

func eventID(n int) string { return "k3f9-" + strconv.Itoa(n) }

// stream returns a stream that starts after an id.
func (s *faultyServer) stream(lastID string) string {
	block := eventstream.AppendRetry(nil, 2*time.Second)
	position := s.published
	switch seq, err := strconv.Atoi(strings.TrimPrefix(lastID, "k3f9-")); {
	case lastID == "" && s.values && s.published > 0:
		block = append(eventstream.AppendEnd(block), s.event(1)...)
		position = 1
		block = eventstream.AppendMark(block, eventID(position))
	case lastID == "":
		position = 0
		block = eventstream.AppendMark(block, eventID(position))
	case err != nil:
		s.t.Fatalf("Last-Event-ID is %q", lastID)
	case seq < s.published-s.keeps:
		reset := fmt.Sprintf(`{"reason":"expired","last_event_id":%q}`, lastID)
		block = eventstream.AppendEvent(block, eventID(position), "peald.reset", reset)
	default:
		position = seq
		block = eventstream.AppendMark(block, eventID(position))
	}
	for n := position + 1; n <= s.published; n++ {
		block = append(block, s.event(n)...)
		if n%3 == 0 {
			block = eventstream.AppendMark(block, eventID(n))
		}
	}
	return string(block)
}

// event returns the nth event, whose data differs from that of all others.
func (s *faultyServer) event(n int) []byte {
	return eventstream.AppendEvent(nil, eventID(n), []string{"", "topic", "größe ✓"}[n%3], dataOf(n))
}

func dataOf(n int) string {
	return strconv.Itoa(n) + strings.Repeat("\n", n%4) + strings.Repeat(" é ", n%50)
}

// TestNothingLost checks that a client of a faulty server gets each event exactly once
// and in order, or a reset where some are missing. It may leave the loop and continue.
func TestNothingLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) { checkNothingLost(t, rt) })
	})
}

func checkNothingLost(t *testing.T, rt *rapid.T) {
	s := &faultyServer{
		t: rt, total: rapid.IntRange(1, 60).Draw(rt, "total"), keeps: rapid.SampledFrom([]int{1, 15, 100}).Draw(rt, "keeps"),
		faults: rapid.IntRange(0, 25).Draw(rt, "faults"), values: rapid.Bool().Draw(rt, "values"),
	}
	sub, err := client.Subscribe(t.Context(), streamURL, client.WithHTTPClient(&http.Client{Transport: s}))
	if err != nil {
		rt.Fatal(err)
	}

	start, next, reset, done := time.Now(), 1, false, false
	for !done {
		done = true
		for event, err := range sub.Events() {
			switch {
			case err != nil:
				rt.Fatal(err)
			case event.Reset != nil:
				reset = true
				continue
			}
			n, err := strconv.Atoi(strings.TrimPrefix(event.ID, "k3f9-"))
			if err != nil || n != next && (!reset || n < next) {
				rt.Fatalf("got event %q, want %d; after a reset: %t", event.ID, next, reset)
			}
			if wantType := []string{"message", "topic", "größe ✓"}[n%3]; event.Type != wantType || event.Data != dataOf(n) {
				rt.Fatalf("event %d has the type %q and the data %q", n, event.Type, event.Data)
			}
			if event.Retained && !s.values {
				rt.Fatalf("event %d is a retained value", n)
			}
			next, reset = n+1, false
			if done = !rapid.Bool().Draw(rt, "leave"); !done {
				break
			}
		}
	}
	if next <= s.total && !reset {
		rt.Fatalf("the stream ended before event %d of %d", next, s.total)
	}
	if perMinute := float64(s.requests) / max(time.Since(start).Minutes(), 1); perMinute > 120 {
		rt.Fatalf("%.0f requests per minute", perMinute)
	}
}
