package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// final returns a message that ends its topic.
func final(m broker.Message) broker.Message {
	m.Final = true
	return m
}

func TestTopicsEnd(t *testing.T) {
	for form, opening := range forms() {
		t.Run(form, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := broker.New(withRetain())
				defer b.Close()
				open := func(sub broker.Subscription) *client { return connectAs(t, b, sub, -1, opening) }
				first := publish(t, b, toTopic("t", "1"))
				alone := open(broker.Subscription{Topics: []string{"t"}})
				withUser := open(broker.Subscription{User: "alice", Topics: []string{"t"}})
				two := open(broker.Subscription{Topics: []string{"t", "u"}})
				pattern := open(broker.Subscription{Topics: []string{"*"}})
				other := open(broker.Subscription{Topics: []string{"u"}})
				last := publish(t, b, final(toTopic("t", "2")))
				after := publish(t, b, toAll("after"))
				synctest.Wait()

				check := func(name string, c *client, want string, closed bool) {
					t.Helper()
					isClosed, why := c.closed()
					if got := c.blocks(); got != want || isClosed != closed || closed && why != broker.Ended {
						t.Errorf("%s: got %q, closed %v (%v); want %q, closed %v", name, got, isClosed, why, want, closed)
					}
					if _, err := c.body(); closed && form != "bare" && !errors.Is(err, errBodyEnd) {
						t.Errorf("%s: the body hasn't ended: %v", name, err)
					}
				}
				check("alone", alone, "mark 2 end", true)
				check("with a user", withUser, "mark 2 end", true)
				check("two topics", two, "mark 2 end after", false)
				check("pattern", pattern, "mark 2 end after", false)
				check("other topic", other, "mark after", false)

				later := map[string]struct {
					sub    broker.Subscription
					want   string
					closed bool
				}{
					"fresh":                  {broker.Subscription{Topics: []string{"t"}}, "mark end", true},
					"since the start":        {broker.Subscription{Topics: []string{"t"}, Start: broker.SinceAll()}, "mark 1 2 after end", true},
					"resumes":                {broker.Subscription{Topics: []string{"t"}, LastEventID: first.ID}, "mark 2 after end", true},
					"resumes at the end":     {broker.Subscription{Topics: []string{"t"}, LastEventID: last.ID}, "mark after end", true},
					"missed nothing":         {broker.Subscription{Topics: []string{"t"}, LastEventID: after.ID}, "mark end", true},
					"fresh, two topics":      {broker.Subscription{Topics: []string{"u", "t"}}, "mark end", false},
					"reset, two topics":      {broker.Subscription{Topics: []string{"t", "u"}, LastEventID: "x-1"}, "[unknown] end", false},
					"since, two topics":      {broker.Subscription{Topics: []string{"t", "u"}, Start: broker.SinceAll()}, "mark 1 2 end after", false},
					"rewind, two topics":     {broker.Subscription{Topics: []string{"t", "u"}, Start: broker.Rewind(1)}, "mark end after", false},
					"two topics":             {broker.Subscription{Topics: []string{"t", "u"}, LastEventID: first.ID}, "mark 2 end after", false},
					"two topics, at the end": {broker.Subscription{Topics: []string{"t", "u"}, LastEventID: last.ID}, "mark after", false},
					"pattern":                {broker.Subscription{Topics: []string{"*"}, LastEventID: first.ID}, "mark 2 end after", false},
					"pattern alone":          {broker.Subscription{Topics: []string{"*"}}, "mark", false},
				}
				for name, c := range later {
					stream := open(c.sub)
					synctest.Wait()
					check(name, stream, c.want, c.closed)
					stream.stream.HangUp()
				}

				for id, want := range map[string]bool{first.ID: false, last.ID: true, after.ID: true, "": false, "x-9": false, "not an id": false, last.ID + "0": false} {
					if got := b.NothingFollows([]string{"t"}, id); got != want {
						t.Errorf("NothingFollows after %q is %v, want %v", id, got, want)
					}
				}
				if b.NothingFollows([]string{"t", "u"}, last.ID) || b.NothingFollows([]string{"*"}, last.ID) || b.NothingFollows(nil, last.ID) {
					t.Error("NothingFollows for streams that don't end")
				}

				publish(t, b, toTopic("t", "3"))
				if b.NothingFollows([]string{"t"}, after.ID) {
					t.Error("the topic hasn't been reopened")
				}
				reopened := open(broker.Subscription{Topics: []string{"t"}, LastEventID: first.ID})
				synctest.Wait()
				check("reopened", reopened, "mark 2 after 3", false)
			})
		})
	}
}

// TestEndsOutliveEvents checks that a topic's end is known when its events have left the
// history, for as long as the history remembers what it evicted.
func TestEndsOutliveEvents(t *testing.T) {
	for _, ttl := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			cfg := withHistory()
			cfg.History.MaxAge, cfg.History.MaxBytes = time.Minute, 1<<20
			b := broker.New(cfg)
			defer b.Close()
			m := final(toTopic("t", "2"))
			m.TTL = ttl
			last := publish(t, b, m)
			time.Sleep(2 * time.Minute)
			if n := b.Stats().LogEvents; n != 0 {
				t.Fatalf("%d events are left", n)
			}
			if !b.NothingFollows([]string{"t"}, last.ID) {
				t.Error("the end is forgotten")
			}
			for i := range 1000 { // marks of other topics take its place
				publish(t, b, toTopic(fmt.Sprint("other", i), "x"))
			}
			time.Sleep(2 * time.Minute)
			if b.NothingFollows([]string{"t"}, last.ID) {
				t.Error("the end is remembered for ever")
			}
		})
	}
}

// TestClientsStopAfterExpiredEnd checks that a client which missed the final event, and
// can't get it because its time to live has ended, doesn't connect for ever.
func TestClientsStopAfterExpiredEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		first := publish(t, b, toTopic("t", "1"))
		m := final(toTopic("t", "2"))
		m.TTL = time.Second
		publish(t, b, m)
		time.Sleep(2 * time.Second)
		for name, sub := range map[string]broker.Subscription{
			"resumes": {LastEventID: first.ID}, "fresh": {}, "all": {Start: broker.SinceAll()}, "rewind": {Start: broker.Rewind(1)},
		} {
			sub.Topics = []string{"t"}
			c := connect(t, b, sub, -1)
			synctest.Wait()
			if got := c.blocks(); !strings.HasSuffix(got, "mark end") && got != "mark 1 end" {
				t.Errorf("%s: got %q", name, got)
			}
			events := c.events()
			if last := events[len(events)-1].id; !b.NothingFollows(sub.Topics, last) {
				t.Errorf("%s: the client connects again with %s", name, last)
			}
		}
	})
}

// TestSlowStreamsEnd checks that a stream whose connection is slow gets everything before
// it is closed, and that it is closed at some point if the connection accepts nothing.
func TestSlowStreamsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		slow := connect(t, b, broker.Subscription{Topics: []string{"t"}}, 10)
		dead := connect(t, b, broker.Subscription{Topics: []string{"t"}}, 10)
		publish(t, b, toTopic("t", "1"))
		publish(t, b, final(toTopic("t", "2")))
		synctest.Wait()
		publish(t, b, toTopic("t", "3"))
		for range 100 {
			slow.drain(5)
			synctest.Wait()
		}
		if closed, why := slow.closed(); !closed || why != broker.Ended || !strings.HasSuffix(slow.blocks(), "mark 1 2 end") {
			t.Errorf("closed %v (%v) after %q", closed, why, slow.blocks())
		}
		time.Sleep(2 * time.Minute)
		if closed, why := dead.closed(); !closed || why != broker.WriteTimeout {
			t.Errorf("closed %v (%v), want %v", closed, why, broker.WriteTimeout)
		}
		if n := b.Stats().Total.Connections; n != 0 {
			t.Errorf("%d streams are open", n)
		}
	})
}
