package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// readAll reads all pages and returns their data and the last position.
func readAll(tb testing.TB, b *broker.Broker, q broker.Read) (data, position string) {
	tb.Helper()
	var all []string
	for {
		page, err := b.ReadMessages(tb.Context(), q)
		if err != nil {
			tb.Fatalf("%+v: %v", q, err)
		}
		if len(page.Messages) > q.Limit {
			tb.Fatalf("%d messages on a page of %d", len(page.Messages), q.Limit)
		}
		for _, m := range page.Messages {
			all = append(all, m.Data)
			q.Cursor, q.Position = m.ID, page.Position
		}
		if !page.More {
			return strings.Join(all, " "), page.Position
		}
	}
}

func TestReadMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withRetain())
		defer b.Close()
		start, _ := b.Position()
		publish(t, b, toAll("all1"))
		publish(t, b, retain(toTopic("a", "a1"), "x"))
		publish(t, b, toUser("alice", "alice1"))
		second := publish(t, b, retain(toTopic("a", "a2"), "y"))
		short := toTopic("a", "a3")
		short.TTL = time.Minute
		expires := publish(t, b, short)
		publish(t, b, retain(toTopic("a", "a4"), "x"))
		publish(t, b, toTopic("a.b", "ab1"))
		end := publish(t, b, toAll("all2"))
		a := broker.ToTopic("a")

		for _, c := range []struct {
			q    broker.Read
			want string
		}{
			{broker.Read{Audience: broker.Everyone()}, "all1 all2"},
			{broker.Read{Audience: broker.ToUser("alice")}, "alice1"},
			{broker.Read{Audience: broker.ToUser("bob")}, ""},
			{broker.Read{Audience: a}, "a1 a2 a3 a4"},
			{broker.Read{Audience: a, After: start}, "a1 a2 a3 a4"},
			{broker.Read{Audience: a, After: second.ID}, "a3 a4"},
			{broker.Read{Audience: a, After: end.ID}, ""},
			{broker.Read{Audience: a, Newest: true}, "a4 a3 a2 a1"},
			{broker.Read{Audience: a, Newest: true, After: second.ID}, "a4 a3"},
			{broker.Read{Audience: a, Newest: true, After: end.ID}, ""},
			{broker.Read{Audience: a, Retained: true}, "a2 a4"},
			{broker.Read{Audience: a, Retained: true, Newest: true}, "a4 a2"},
			{broker.Read{Audience: a, Retained: true, After: second.ID}, "a4"},
			{broker.Read{Audience: broker.ToTopic("none"), Retained: true}, ""},
		} {
			for _, c.q.Limit = range []int{1, 2, 3, 1000} {
				if got, position := readAll(t, b, c.q); got != c.want || position != end.ID {
					t.Errorf("%+v: got %q up to %s, want %q up to %s", c.q, got, position, c.want, end.ID)
				}
			}
		}
		for _, q := range []broker.Read{{Audience: a, Limit: 3}, {Audience: a, Limit: 1, After: expires.ID, Newest: true}} {
			page, err := b.ReadMessages(t.Context(), q)
			if want := map[bool]string{false: expires.ID, true: end.ID}[q.Newest]; err != nil || page.Position != want || page.More == q.Newest {
				t.Errorf("%+v: position %s, more %v, %v; want the position %s", q, page.Position, page.More, err, want)
			}
		}

		// Messages that have expired are no gap.
		time.Sleep(time.Minute)
		if got, _ := readAll(t, b, broker.Read{Audience: a, After: start, Limit: 1}); got != "a1 a2 a4" {
			t.Errorf("a minute later: got %q", got)
		}
		if got := b.Stats().Reads; got.Broadcast == 0 || got.User == 0 || got.Topic <= got.User {
			t.Errorf("counted %+v", got)
		}
	})
}

func TestReadPages(t *testing.T) {
	b := broker.New(withRetain())
	defer b.Close()
	text := strings.Repeat("x", 300_000)
	cfg := withRetain()
	cfg.History.MaxBytes, cfg.Retain.MaxBytes = 16<<20, 16<<20
	b.Reconfigure(cfg)
	for i := range 10 {
		publish(t, b, retain(toAll(text), fmt.Sprint(i)))
	}
	for _, q := range []broker.Read{{}, {Newest: true}, {Retained: true}, {Retained: true, Newest: true}} {
		q.Audience, q.Limit = broker.Everyone(), 100
		page, err := b.ReadMessages(t.Context(), q)
		if err != nil || len(page.Messages) != 4 || !page.More {
			t.Errorf("%+v: %d messages, more %v, %v; want 4 of 10", q, len(page.Messages), page.More, err)
		}
		if got, _ := readAll(t, b, q); len(got) != 10*len(text)+9 {
			t.Errorf("%+v: %d bytes on all pages", q, len(got))
		}
	}
}

func TestReadFromOutsideOfTheHistory(t *testing.T) {
	b := broker.New(withHistory())
	defer b.Close()
	cfg := withHistory()
	cfg.Topics = []broker.TopicPolicy{{Pattern: "a", MaxEvents: 2}}
	b.Reconfigure(cfg)
	start, _ := b.Position()
	var ids []string
	for i := range 5 {
		ids = append(ids, publish(t, b, toTopic("a", fmt.Sprint(i))).ID)
		publish(t, b, toTopic("b", "x"))
	}
	end, _ := b.Position()
	epoch, _, _ := strings.Cut(end, "-")

	a, oldest := broker.ToTopic("a"), ids[3]
	for _, c := range []struct {
		q          broker.Read
		id, reason string
	}{
		{broker.Read{After: start}, start, broker.ResetExpired},
		{broker.Read{After: ids[1], Newest: true}, ids[1], broker.ResetExpired},
		{broker.Read{Cursor: ids[1]}, ids[1], broker.ResetExpired},
		{broker.Read{After: epoch + "-99"}, epoch + "-99", broker.ResetUnknown},
		{broker.Read{After: "other-3"}, "other-3", broker.ResetUnknown},
		{broker.Read{Cursor: "other-3", Newest: true}, "other-3", broker.ResetUnknown},
		{broker.Read{After: "other-3", Retained: true}, "other-3", broker.ResetUnknown},
		{broker.Read{Cursor: ids[1], Position: "other-3", Retained: true}, "other-3", broker.ResetUnknown},
	} {
		c.q.Audience, c.q.Limit = a, 10
		_, err := b.ReadMessages(t.Context(), c.q)
		position, ok := errors.AsType[*broker.PositionError](err)
		if !ok || position.ID != c.id || position.Reason != c.reason || position.Oldest != oldest || !strings.Contains(err.Error(), oldest) {
			t.Errorf("%+v: got %+v, want %s of %s and the oldest %s", c.q, err, c.reason, c.id, oldest)
		}
	}
	if _, err := b.ReadMessages(t.Context(), broker.Read{Audience: broker.ToUser("bob"), After: "x-1", Limit: 1}); !strings.Contains(err.Error(), "no messages") {
		t.Errorf("without messages: %v", err)
	}

	// What is left, and what was never evicted.
	for _, q := range []broker.Read{{After: ids[2]}, {After: ids[3]}, {Cursor: ids[0], Newest: true}, {}} {
		q.Audience, q.Limit = a, 10
		if _, err := b.ReadMessages(t.Context(), q); err != nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if got, _ := readAll(t, b, broker.Read{Audience: broker.ToTopic("b"), After: start, Limit: 2}); got != "x x x x x" {
		t.Errorf("another topic: got %q", got)
	}
	// A range that is empty because the cursor precedes After.
	if got, _ := readAll(t, b, broker.Read{Audience: a, After: ids[3], Cursor: ids[1], Newest: true, Limit: 2}); got != "" {
		t.Errorf("an empty range: got %q", got)
	}
}

func TestReadRejects(t *testing.T) {
	b := broker.New(withHistory())
	for field, q := range map[string]broker.Read{
		"audience":   {},
		"topic":      {Audience: broker.ToTopic("a.*")},
		"user_id":    {Audience: broker.ToUser("")},
		"after_id":   {Audience: broker.Everyone(), After: "x"},
		"page_token": {Audience: broker.Everyone(), Cursor: "x"},
	} {
		q.Limit = 1
		_, err := b.ReadMessages(t.Context(), q)
		if invalid, ok := errors.AsType[*broker.InvalidError](err); !ok || invalid.Field != field {
			t.Errorf("%+v: %v, want an invalid %s", q, err, field)
		}
	}
	if _, err := b.ReadMessages(t.Context(), broker.Read{Audience: broker.Everyone()}); err == nil {
		t.Error("a limit of 0 is accepted")
	}
	b.Close()
	if _, err := b.ReadMessages(t.Context(), broker.Read{Audience: broker.Everyone(), Limit: 1}); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestReadOnReplica checks that a replica waits for an event that the caller has seen,
// and reads from positions that no entry has.
func TestReadOnReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		q := broker.Read{Audience: broker.Everyone(), After: "abc-7", Limit: 10}
		b.Begin("abc", 5)
		if _, err := b.ReadMessages(t.Context(), broker.Read{Audience: broker.Everyone(), Limit: 1}); !errors.Is(err, broker.ErrSuspended) {
			t.Errorf("suspended: %v", err)
		}
		b.Resume()
		apply(t, b, 6, time.Now(), toAll("before"))

		read := make(chan string)
		go func() {
			got, position := readAll(t, b, q)
			read <- got + " up to " + position
		}()
		synctest.Wait()
		b.Advance(7)
		if got := <-read; got != " up to abc-7" {
			t.Errorf("got %q", got)
		}
		apply(t, b, 9, time.Now(), toAll("after"))
		if got, position := readAll(t, b, q); got != "after" || position != "abc-9" {
			t.Errorf("got %q up to %s", got, position)
		}

		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		q.After = "abc-99"
		if _, err := b.ReadMessages(canceled, q); !errors.Is(err, broker.ErrBehind) {
			t.Errorf("behind: %v", err)
		}
		q.After = "abc-3"
		if _, err := b.ReadMessages(t.Context(), q); !strings.Contains(fmt.Sprint(err), "have left") {
			t.Errorf("before the log: %v", err)
		}
	})
}

// TestReadRestoredValues reads values that are from an earlier log, page by page.
func TestReadRestoredValues(t *testing.T) {
	b := replica()
	defer b.Close()
	b.Begin("mwts0opf2", 5)
	a := broker.ToTopic("a")
	value := func(id, key string) broker.RetainedValue {
		return broker.RetainedValue{ID: id, Audience: a, ConflateKey: key, Data: key, At: time.Now().UnixNano()}
	}
	if err := b.RestoreRetained([]broker.RetainedValue{
		value("mwts0opf0-7", "1"), value("mwts0opf0-9", "2"), value("mwts0opf1-3", "3"), value("mwts0opf2-2", "4"), value("mwts0opf2-4", "5"),
	}, nil, 4); err != nil {
		t.Fatal(err)
	}
	b.Resume()
	for _, limit := range []int{1, 2, 10} {
		if got, _ := readAll(t, b, broker.Read{Audience: a, Retained: true, Limit: limit}); got != "1 2 3 4 5" {
			t.Errorf("pages of %d: %q", limit, got)
		}
		if got, _ := readAll(t, b, broker.Read{Audience: a, Retained: true, Newest: true, Limit: limit}); got != "5 4 3 2 1" {
			t.Errorf("pages of %d, newest first: %q", limit, got)
		}
	}
	// The value at the end of the previous page has been replaced.
	for _, c := range []struct{ cursor, after, before string }{
		{"mwts0opf0-8", "2 3 4 5", "1"}, {"mwts0opf1-9", "4 5", "3 2 1"}, {"mwts0opf0-1", "1 2 3 4 5", ""},
	} {
		q := broker.Read{Audience: a, Retained: true, Cursor: c.cursor, Position: "mwts0opf2-4", Limit: 10}
		if got, _ := readAll(t, b, q); got != c.after {
			t.Errorf("after %s: %q, want %q", c.cursor, got, c.after)
		}
		q.Newest = true
		if got, _ := readAll(t, b, q); got != c.before {
			t.Errorf("before %s: %q, want %q", c.cursor, got, c.before)
		}
	}
}
