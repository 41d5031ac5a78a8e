package broker_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// dataAndResets joins what the client got, with the reasons of resets in brackets.
func (c *client) dataAndResets() string {
	var all []string
	for _, e := range c.events() {
		if e.typ == "peald.reset" {
			_, reason, _ := strings.Cut(e.data, `"reason":"`)
			reason, _, _ = strings.Cut(reason, `"`)
			e.data = "[" + reason + "]"
		}
		all = append(all, e.data)
	}
	return strings.Join(all, " ")
}

func TestStarts(t *testing.T) {
	const all = "0 1 2 3 4 5 6"
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // the time in a synctest bubble
	for name, c := range map[string]struct {
		sub    broker.Subscription
		want   string
		maxAge time.Duration
	}{
		"now":                          {sub: broker.Subscription{}, want: ""},
		"all, anonymous":               {sub: broker.Subscription{Start: broker.SinceAll()}, want: "0 5"},
		"all, with a user and topics":  {sub: broker.Subscription{User: "alice", Topics: []string{"a", "b.x"}, Start: broker.SinceAll()}, want: all},
		"all, with patterns":           {sub: broker.Subscription{User: "alice", Topics: []string{"a", "b.*"}, Start: broker.SinceAll()}, want: all},
		"all, events have expired":     {sub: broker.Subscription{User: "alice", Start: broker.SinceAll()}, maxAge: 4 * time.Minute, want: "5 6"},
		"ago, before the broker":       {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(time.Hour)}, want: "[expired] 0 1 5 6"},
		"ago, at the broker's start":   {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(7 * time.Minute)}, want: "0 1 5 6"},
		"ago, exactly at an event":     {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(2 * time.Minute)}, want: "5 6"},
		"ago, right after an event":    {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(2*time.Minute - 1)}, want: "6"},
		"ago, nothing since":           {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(time.Second)}, want: ""},
		"ago, events have expired":     {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(6 * time.Minute)}, maxAge: 210 * time.Second, want: "[expired] 5 6"},
		"ago, nothing has expired":     {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(3 * time.Minute)}, maxAge: 210 * time.Second, want: "5 6"},
		"ago, everything has expired":  {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(time.Hour)}, maxAge: 30 * time.Second, want: "[expired]"},
		"the longest time ago":         {sub: broker.Subscription{User: "alice", Start: broker.SinceAgo(1<<63 - 1)}, want: "[expired] 0 1 5 6"},
		"time of an event":             {sub: broker.Subscription{Topics: []string{">"}, Start: broker.SinceTime(begin.Add(3 * time.Minute))}, want: "3 4 5"},
		"time after an event":          {sub: broker.Subscription{Topics: []string{">"}, Start: broker.SinceTime(begin.Add(3*time.Minute + 1))}, want: "4 5"},
		"time long ago":                {sub: broker.Subscription{Start: broker.SinceTime(time.Time{})}, want: "[expired] 0 5"},
		"time in the future":           {sub: broker.Subscription{Start: broker.SinceTime(begin.AddDate(1, 0, 0))}, want: ""},
		"time far in the future":       {sub: broker.Subscription{Start: broker.SinceTime(begin.AddDate(7999, 0, 0))}, want: ""},
		"rewind 1, anonymous":          {sub: broker.Subscription{Start: broker.Rewind(1)}, want: "5"},
		"rewind 2":                     {sub: broker.Subscription{User: "alice", Topics: []string{"a"}, Start: broker.Rewind(2)}, want: "5 6"},
		"rewind 3":                     {sub: broker.Subscription{User: "alice", Topics: []string{"a"}, Start: broker.Rewind(3)}, want: "3 5 6"},
		"rewind 4":                     {sub: broker.Subscription{User: "alice", Topics: []string{"a"}, Start: broker.Rewind(4)}, want: "2 3 5 6"},
		"rewind to more than there is": {sub: broker.Subscription{User: "alice", Topics: []string{"a"}, Start: broker.Rewind(1000)}, want: "0 1 2 3 5 6"},
		"rewind 2 with patterns":       {sub: broker.Subscription{Topics: []string{"a", "b.*", "a.>"}, Start: broker.Rewind(2)}, want: "4 5"},
		"rewind 3 with patterns":       {sub: broker.Subscription{Topics: []string{"*", "b.*"}, Start: broker.Rewind(3)}, want: "3 4 5"},
		"rewind 9 with patterns":       {sub: broker.Subscription{Topics: []string{"b.*"}, Start: broker.Rewind(9)}, want: "0 4 5"},
		"rewind, events have expired":  {sub: broker.Subscription{User: "alice", Start: broker.Rewind(9)}, maxAge: 4 * time.Minute, want: "5 6"},
		"an id comes first":            {sub: broker.Subscription{LastEventID: "ID5", Start: broker.SinceAll()}, want: "5"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := withHistory()
				cfg.History.MaxAge = c.maxAge
				b := broker.New(cfg)
				defer b.Close()
				var ids []string
				for _, m := range []broker.Message{
					toAll("0"), toUser("alice", "1"), toTopic("a", "2"), toTopic("a", "3"), toTopic("b.x", "4"), toAll("5"), toUser("alice", "6"),
				} {
					ids = append(ids, publish(t, b, m).ID)
					time.Sleep(time.Minute)
				}
				c.sub.LastEventID = strings.Replace(c.sub.LastEventID, "ID5", ids[4], 1)
				got := connect(t, b, c.sub, -1)
				synctest.Wait()
				if got := got.dataAndResets(); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				publish(t, b, toAll("live"))
				synctest.Wait()
				if data := got.data(); len(data) == 0 || data[len(data)-1] != "live" {
					t.Errorf("got %q, want a live event at the end", data)
				}
			})
		})
	}
}

// TestStartAfterClockWasSetBack checks that a stream gets all events since a time even if
// their times aren't in order, and is allowed to get more.
func TestStartAfterClockWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		began := time.Now()
		b.Begin("abc", 1)
		b.Resume()
		for i, minute := range []int{1, 5, 9, 3, 4, 8, 10} {
			apply(t, b, uint64(i+1), began.Add(time.Duration(minute)*time.Minute), toAll(fmt.Sprint(minute)))
		}
		for minute, want := range map[int]string{1: "1 5 9 3 4 8 10", 2: "5 9 3 4 8 10", 6: "9 3 4 8 10", 9: "9 3 4 8 10", 10: "10", 11: ""} {
			c := connect(t, b, broker.Subscription{Start: broker.SinceTime(began.Add(time.Duration(minute) * time.Minute))}, -1)
			synctest.Wait()
			if got := c.dataAndResets(); got != want {
				t.Errorf("since minute %d: got %q, want %q", minute, got, want)
			}
		}
	})
}

// TestReplicaKnowsWhenItsLogStarts checks that replicas reset streams that start before
// their log does, by the log's clock.
func TestReplicaKnowsWhenItsLogStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 7)
		logStart := time.Now().Add(-5 * time.Minute)
		b.SetLogStart(logStart)
		b.SetClock(time.Now().Add(-time.Minute))
		b.Resume()
		apply(t, b, 7, logStart, toAll("first"))
		for start, want := range map[broker.Start]string{
			broker.SinceTime(logStart.Add(-1)): "[expired] first",
			broker.SinceTime(logStart):         "first",
			broker.SinceAgo(4 * time.Minute):   "first",
			broker.SinceAgo(4*time.Minute + 1): "[expired] first",
			broker.SinceAgo(4*time.Minute - 1): "",
			broker.SinceAll():                  "first",
			broker.Rewind(1):                   "first",
		} {
			c := connect(t, b, broker.Subscription{Start: start}, -1)
			synctest.Wait()
			if got := c.dataAndResets(); got != want {
				t.Errorf("%+v: got %q, want %q", start, got, want)
			}
		}
	})
}

// TestStartOfFullHistory starts streams at the start of a history that evicts an event
// with each new one. No stream may begin with a reset, and all events after its first
// one must follow.
func TestStartOfFullHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History = broker.History{MaxEvents: 100, MaxBytes: 1 << 20}
		b := broker.New(cfg)
		defer b.Close()
		next := 0
		for range 100 {
			publish(t, b, toAll(fmt.Sprint(next)))
			next++
		}
		var clients []*client
		for i := range 300 {
			sub := broker.Subscription{Start: broker.SinceAll()}
			if i%2 == 0 {
				sub = broker.Subscription{Topics: []string{"x.*"}, Start: broker.Rewind(100)}
			}
			clients = append(clients, connect(t, b, sub, -1))
			publish(t, b, toAll(fmt.Sprint(next))) // before the shard opens the stream
			next++
		}
		synctest.Wait()
		for i, c := range clients {
			var want []string
			for n := i; n < next; n++ {
				want = append(want, fmt.Sprint(n))
			}
			if got := c.data(); !slices.Equal(got, want) {
				t.Fatalf("stream %d got %q, want %q", i, got, want)
			}
		}
		if s := b.Stats(); s.Since.Replayed != 150 || s.Rewinds.Replayed != 150 || s.Resumes.Replayed != 0 || len(s.Since.Resets) > 0 {
			t.Errorf("since %+v, rewinds %+v, resumes %+v", s.Since, s.Rewinds, s.Resumes)
		}
	})
}

// TestStartThatIsReadSlowly checks that a long replay from a start waits for the client,
// survives a disconnect, and is counted.
func TestStartThatIsReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History = broker.History{MaxEvents: 10_000, MaxBytes: 64 << 20}
		cfg.QueueBytes = 64 << 10
		b := broker.New(cfg)
		defer b.Close()
		var want []string
		for i := range 9_000 {
			want = append(want, fmt.Sprintf("number %d", i))
			publish(t, b, toAll(want[i]))
		}

		c := connect(t, b, broker.Subscription{Start: broker.SinceAgo(time.Hour)}, 0)
		for range 10 {
			c.drain(10_000)
			synctest.Wait()
			if q := b.Stats().Total.QueuedBytes; q > 300<<10 {
				t.Fatalf("%d bytes are queued", q)
			}
		}
		c.stream.HangUp()
		synctest.Wait()
		events := c.events()
		if events[0].typ != "peald.reset" {
			t.Fatalf("the stream starts with %v, want a reset", events[0])
		}
		got := c.data()[1:]
		rest := connect(t, b, broker.Subscription{LastEventID: events[len(events)-1].id, Start: broker.SinceAll()}, -1)
		synctest.Wait()
		if got = append(got, rest.data()...); !slices.Equal(got, want) {
			t.Errorf("got %d events, want %d in order", len(got), len(want))
		}

		c = connect(t, b, broker.Subscription{Start: broker.Rewind(1000)}, 100)
		synctest.Wait()
		c.stream.HangUp()
		synctest.Wait()
		if s := b.Stats(); s.Since.Resets["expired"] != 1 || s.Since.Ended != 0 || s.Rewinds.Ended != 1 || s.Resumes.Replayed != 1 {
			t.Errorf("since %+v, rewinds %+v, resumes %+v", s.Since, s.Rewinds, s.Resumes)
		}
	})
}

// TestStartBehindEvictions checks that a client that loses its connection right after
// the first position mark gets no reset for events that were gone when it started.
func TestStartBehindEvictions(t *testing.T) {
	mark := regexp.MustCompile(`event: peald\.mark\nid: (.*)\n`)
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History.MaxAge = time.Minute
		b := broker.New(cfg)
		defer b.Close()
		publish(t, b, toTopic("t", "gone"))
		publish(t, b, final(toTopic("ended", "gone")))
		time.Sleep(2 * time.Minute)
		publish(t, b, toTopic("t", "1"))
		last := publish(t, b, toTopic("other", "2"))

		for name, c := range map[string]struct {
			sub  broker.Subscription
			want string
		}{
			"some events":    {broker.Subscription{Topics: []string{"t"}, Start: broker.SinceAll()}, "1"},
			"a pattern":      {broker.Subscription{Topics: []string{"*"}, Start: broker.SinceAll()}, "1 2"},
			"rewind":         {broker.Subscription{Topics: []string{"t"}, Start: broker.Rewind(3)}, "1"},
			"no events":      {broker.Subscription{Topics: []string{"none"}, Start: broker.SinceAll()}, ""},
			"an ended topic": {broker.Subscription{Topics: []string{"ended"}, Start: broker.SinceAll()}, `{"topic":"ended"}`},
		} {
			started := connect(t, b, c.sub, -1)
			synctest.Wait()
			at := mark.FindStringSubmatch(started.text())
			if at == nil {
				t.Fatalf("%s: no mark in %q", name, started.text())
			}
			resumed := connect(t, b, broker.Subscription{Topics: c.sub.Topics, LastEventID: at[1]}, -1)
			synctest.Wait()
			for how, got := range map[string]string{"started": started.dataAndResets(), "resumed": resumed.dataAndResets()} {
				if got != c.want {
					t.Errorf("%s, %s: got %q, want %q", name, how, got, c.want)
				}
			}
			if ended := b.NothingFollows(c.sub.Topics, at[1]); ended != (name == "an ended topic") || !strings.ContainsAny(c.want, "12") && at[1] != last.ID {
				t.Errorf("%s: the stream starts at %s, and NothingFollows is %v", name, at[1], ended)
			}
		}
	})
}

// TestStartWithoutHistory checks that clients learn that there is nothing to replay.
func TestStartWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		publish(t, b, toAll("lost"))
		time.Sleep(time.Minute)
		for start, want := range map[broker.Start]string{
			broker.SinceAll(): "", broker.Rewind(3): "", broker.SinceAgo(time.Minute): "[expired]", broker.SinceAgo(time.Minute - 1): "",
		} {
			c := connect(t, b, broker.Subscription{Start: start}, -1)
			synctest.Wait()
			if got := c.dataAndResets(); got != want {
				t.Errorf("%+v: got %q, want %q", start, got, want)
			}
		}
	})
}

func TestPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		publish(t, b, toAll("before"))
		id, err := b.Position()
		if err != nil {
			t.Fatal(err)
		}
		publish(t, b, toAll("1"))
		c := connect(t, b, broker.Subscription{LastEventID: id}, -1)
		publish(t, b, toAll("2"))
		synctest.Wait()
		if got := c.dataAndResets(); got != "1 2" {
			t.Errorf("got %q, want 1 2", got)
		}
		b.Close()
		if id, err := b.Position(); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("after Close the position is %q, %v", id, err)
		}

		r := replica()
		defer r.Close()
		if id, err := r.Position(); !errors.Is(err, broker.ErrSuspended) {
			t.Errorf("a suspended replica has the position %q, %v", id, err)
		}
		r.Begin("abc", 5)
		r.Resume()
		if id, err := r.Position(); id != "abc-4" || err != nil {
			t.Errorf("a new log has the position %q, %v", id, err)
		}
	})
}
