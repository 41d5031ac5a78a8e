package broker_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// picture holds the number of streams by user, as a watch of a topic has reported them.
type picture map[string]int

// follow applies the changes that a watch has.
func (p picture) follow(fail func(format string, args ...any), w *broker.Watch) {
	changes, err := w.Take()
	if err != nil {
		fail("the watch ended: %v", err)
	}
	for _, c := range changes {
		want := p[c.User] - 1
		if c.Open {
			want = p[c.User] + 1
		}
		if c.Connections != want || want < 0 {
			fail("after %v, %q has %d streams, want %d", c.Open, c.User, c.Connections, want)
		}
		if p[c.User] = want; want == 0 {
			delete(p, c.User)
		}
	}
}

func newPicture(w *broker.Watch) picture {
	p := make(picture)
	for _, u := range w.Present {
		p[u.ID] = u.Connections
	}
	if w.Anonymous > 0 {
		p[""] = w.Anonymous
	}
	return p
}

// TestWatchTopicWhileStreamsChange starts watches while streams are opened and closed, and
// checks that each of them ends up with the subscribers that are left.
func TestWatchTopicWhileStreamsChange(t *testing.T) {
	patterns := []string{"t.1", "t.2", "t.*", "*.1", ">", "other", "a..b"}
	topics := []string{"t.1", "t.2", "t.*", "other", "a..b"}
	for round := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			b := broker.New(config())
			defer b.Close()
			left := make(map[string]*broker.Stream)
			for i := range 30 {
				user := fmt.Sprint("user", i%10)
				left[fmt.Sprint(i)] = connect(t, b, broker.Subscription{User: user, Topics: someOf(rand.New(rand.NewPCG(round, uint64(i))), patterns)}, -1).stream
			}
			var stops []func()
			for seed := range uint64(3) {
				stops = append(stops, churn(b, []string{"", "user1", "user2", "other"}, patterns, 1500, 3*round+seed))
			}
			watches := make(map[*broker.Watch]picture)
			names := make(map[*broker.Watch]string)
			for i := range 20 {
				topic := topics[i%len(topics)]
				w, err := b.WatchTopic(t.Context(), topic)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				watches[w], names[w] = newPicture(w), topic
				for w, p := range watches {
					p.follow(t.Fatalf, w)
				}
			}
			for _, stop := range stops {
				stop()
			}
			for name, st := range left {
				if name > "2" {
					st.HangUp()
				}
			}

			synctest.Wait()
			for w, p := range watches {
				p.follow(t.Fatalf, w)
				users, anonymous := subscribers(t, b, names[w], 100)
				want := make(picture)
				for _, u := range users {
					want[u.ID] = u.Connections
				}
				if anonymous > 0 {
					want[""] = anonymous
				}
				if !maps.Equal(p, want) {
					t.Errorf("the watch of %s has reported %v, want %v", names[w], p, want)
				}
			}
		})
	}
}

func TestWatchTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		open := func(user string, topics ...string) *client {
			return connect(t, b, broker.Subscription{User: user, Topics: topics}, -1)
		}
		alice := open("alice", "orders.1")
		open("alice", "news")
		open("bob", "orders.*", ">")
		open("", "orders.1")
		w, err := b.WatchTopic(t.Context(), "orders.1")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if described(w.Present) != "alice 1, bob 1" || w.Anonymous != 1 {
			t.Errorf("present: %s, and %d anonymous streams", described(w.Present), w.Anonymous)
		}

		reported := func(want ...string) {
			t.Helper()
			synctest.Wait()
			changes, err := w.Take()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range changes {
				got = append(got, fmt.Sprint(c.User, " ", c.Open, " ", c.Connections, " ", c.Reason))
			}
			if !slices.Equal(got, want) {
				t.Errorf("reported %q, want %q", got, want)
			}
		}

		open("alice", "news")
		open("carol", "orders.2", "*.2")
		open("carol")
		reported()
		open("alice", "orders.1", "news")
		star := open("alice", "*.1", "orders.*")
		anonymous := open("", ">")
		reported("alice true 2 hung_up", "alice true 3 hung_up", " true 2 hung_up")
		alice.stream.HangUp()
		synctest.Wait()
		star.stream.HangUp()
		synctest.Wait()
		anonymous.stream.HangUp()
		reported("alice false 2 hung_up", "alice false 1 hung_up", " false 1 hung_up")

		waiting := poll(t, b, broker.Subscription{User: "dave", Topics: []string{"orders.1"}}, time.Minute, -1)
		reported("dave true 1 hung_up")
		publish(t, b, toTopic("orders.1", "x"))
		reported("dave false 0 answered")
		if len(waiting.got()) != 1 {
			t.Error("the poll wasn't answered")
		}

		if err := b.Drain(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		changes, _ := w.Take()
		if len(changes) != 3 || changes[2].Connections != 0 || changes[2].Reason != broker.Drained {
			t.Errorf("a drain is reported as %+v", changes)
		}
		w.Close()
		open("alice", "orders.1")
		reported()
	})
}

// TestWatchThatIsReadTooSlowly checks that a watch ends with an error when its buffer is
// full, after the changes that precede the gap.
func TestWatchThatIsReadTooSlowly(t *testing.T) {
	b := broker.New(config())
	defer b.Close()
	all, err := b.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	topic, err := b.WatchTopic(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	other, err := b.WatchTopic(t.Context(), "news")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()

	const buffer = 16 << 10
	for range buffer + 1 {
		st := b.NewStream(broker.Subscription{Topics: []string{"orders"}})
		if err := st.Start(sponge{new(atomic.Int64)}, broker.Opening{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []*broker.Watch{all, topic} {
		if changes, err := w.Take(); len(changes) != buffer || changes[buffer-1].Connections != buffer || !errors.Is(err, broker.ErrWatchOverflow) {
			t.Errorf("%d changes, %v", len(changes), err)
		}
	}
	if changes, err := other.Take(); len(changes) > 0 || err != nil {
		t.Errorf("the watch of another topic: %d changes, %v", len(changes), err)
	}
}
