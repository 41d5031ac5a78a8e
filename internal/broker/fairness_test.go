package broker_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// TestBusyTopicEvictsOnlyItsOwnEvents publishes 5,000 messages per second to one topic
// and 100 to 1,000 others, whose events of the last 30 s take half of the history.
func TestBusyTopicEvictsOnlyItsOwnEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			topics = 1000
			age    = 30 * time.Second
			tick   = 10 * time.Millisecond
			each   = topics * tick // between two messages to one of the others
			limit  = 2 * topics * int(age/each)
		)
		cfg := config()
		cfg.History = broker.History{MaxEvents: limit, MaxBytes: 64 << 20, MaxAge: age}
		b := broker.New(cfg)
		defer b.Close()

		var others, busy []string // ids
		began := time.Now()
		for i := 0; time.Since(began) < age*6/5; i++ {
			name := fmt.Sprintf("other.%d", i%topics)
			others = append(others, publish(t, b, toTopic(name, fmt.Sprint(i))).ID)
			for range 50 {
				busy = append(busy, publish(t, b, toTopic("busy", "x")).ID)
			}
			if st := b.Stats(); st.LogEvents > limit || st.LogBytes > cfg.History.MaxBytes {
				t.Fatalf("the history has %d events and %d bytes", st.LogEvents, st.LogBytes)
			}
			time.Sleep(tick)
		}

		// The events published within age, less the tick that has passed.
		first := len(others) - int(age/tick) + 1
		for _, i := range []int{0, 1, 500, 999} {
			var want []string
			for n := i; n < len(others); n += topics {
				if n >= first {
					want = append(want, fmt.Sprint(n))
				}
			}
			for _, pattern := range []string{"other.%d", "other.%d.>", "*.%d"} {
				sub := broker.Subscription{Topics: []string{fmt.Sprintf(pattern, i)}, LastEventID: others[first-1]}
				if pattern == "other.%d.>" {
					sub.Topics = append(sub.Topics, fmt.Sprintf("other.%d", i))
				}
				c := connect(t, b, sub, -1)
				synctest.Wait()
				if got := c.data(); !slices.Equal(got, want) {
					t.Errorf("topics %q: got %q, want %q", sub.Topics, got, want)
				}
				c.stream.HangUp()
			}
		}

		for _, topic := range []string{"busy", "*", ">"} {
			c := connect(t, b, broker.Subscription{Topics: []string{topic}, LastEventID: busy[len(busy)/2]}, -1)
			synctest.Wait()
			// The others' events may come first, if the patterns match them too.
			events := c.events()
			if n := len(events); n == 0 || n > 1 && topic != ">" || events[n-1].typ != "peald.reset" {
				t.Errorf("topic %q: got %d events, want a reset at the end", topic, n)
			}
			c.stream.HangUp()
		}
	})
}

// TestForgottenMarks publishes to so many topics that the history can't remember what it
// evicted from each of them. Streams may get a reset without need, but never miss an
// event without one.
func TestForgottenMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.History = broker.History{MaxEvents: 10, MaxBytes: 64 << 10}
		b := broker.New(cfg)
		defer b.Close()
		first := publish(t, b, toTopic("t.0", "x"))
		for i := range 5_000 {
			publish(t, b, toTopic(fmt.Sprint("t.", i), "x"))
			if n := b.Stats().LogBytes; n > cfg.History.MaxBytes/2 {
				t.Fatalf("%d bytes are used", n)
			}
		}
		recent := publish(t, b, toTopic("t.6000", "x"))
		publish(t, b, toTopic("t.6001", "last"))

		for lastID, want := range map[string]string{first.ID: "peald.reset", recent.ID: "topic"} {
			for _, topic := range []string{"t.6001", "*.6001"} {
				c := connect(t, b, broker.Subscription{Topics: []string{topic}, LastEventID: lastID}, -1)
				synctest.Wait()
				if events := c.events(); len(events) != 1 || events[0].typ != want {
					t.Errorf("%s after %s: got %q, want a %s", topic, lastID, events, want)
				}
				c.stream.HangUp()
			}
		}
	})
}
