package broker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// described returns users with the numbers of their streams.
func described(users []broker.User) string {
	var all []string
	for _, u := range users {
		all = append(all, fmt.Sprint(u.ID, " ", u.Connections))
	}
	return strings.Join(all, ", ")
}

// subscribers lists all subscribers of a topic, in pages of the given size.
func subscribers(t *testing.T, b *broker.Broker, topic string, size int) (users []broker.User, anonymous int) {
	t.Helper()
	q := broker.SubscriberList{Topic: topic, Limit: size}
	for {
		page, err := b.Subscribers(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Users) > size {
			t.Fatalf("a page has %d users, want up to %d", len(page.Users), size)
		}
		if users = append(users, page.Users...); len(page.Users) < size {
			return users, page.Anonymous
		}
		q.After = page.Users[size-1].ID
	}
}

func TestSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		began := time.Now()
		open := func(user string, topics ...string) *client {
			return connect(t, b, broker.Subscription{User: user, Topics: topics}, -1)
		}
		open("none")
		open("name", "orders.new")
		open("name", "orders.new", "alerts")
		open("star", "orders.*")
		open("rest", "orders.>")
		open("all", ">")
		open("several", "orders.new", "orders.*", "*.*", ">")
		open("odd", "a..b", "*x")
		open("odd", "a..b", "*.x")
		open("zoë", "orders.new")
		open("", "orders.new")
		open("", "orders.*", ">")
		waiting := poll(t, b, broker.Subscription{User: "poll", Topics: []string{"orders.new"}}, time.Minute, -1)

		for topic, want := range map[string]string{
			"orders.new":    "all 1, name 2, poll 1, rest 1, several 1, star 1, zoë 1; 2",
			"orders.new.eu": "all 1, rest 1, several 1; 1",
			"orders":        "all 1, several 1; 1",
			"alerts":        "all 1, name 1, several 1; 1",
			"a..b":          "odd 2; 0",
			"*x":            "all 1, odd 1, several 1; 1",
			"e.x":           "all 1, odd 1, several 1; 1",
			// Patterns.
			"orders.*":   "all 1, rest 1, several 1, star 1; 1",
			"orders.>":   "all 1, rest 1, several 1; 1",
			"*.*":        "all 1, several 1; 1",
			">":          "all 1, several 1; 1",
			"*.new":      "all 1, several 1; 1",
			"orders.*.*": "all 1, rest 1, several 1; 1",
		} {
			for _, size := range []int{1, 2, 3, 100} {
				if users, anonymous := subscribers(t, b, topic, size); fmt.Sprint(described(users), "; ", anonymous) != want {
					t.Errorf("%s, pages of %d: %s; %d, want %s", topic, size, described(users), anonymous, want)
				}
			}
		}

		page, err := b.Subscribers(t.Context(), broker.SubscriberList{Topic: "orders.new", Prefix: "s", After: "several", Limit: 9})
		if err != nil || described(page.Users) != "star 1" || page.Anonymous != 2 || !page.Users[0].Since.Equal(began) {
			t.Errorf("with a prefix: %+v, %v", page, err)
		}

		waiting.stream.HangUp()
		if users, _ := subscribers(t, b, "orders.new", 100); strings.Contains(described(users), "poll") {
			t.Errorf("a poll that has ended is listed: %s", described(users))
		}

		var invalid *broker.InvalidError
		for _, topic := range []string{"", "a.>.b", "\xff"} {
			if _, err := b.Subscribers(t.Context(), broker.SubscriberList{Topic: topic, Limit: 1}); !errors.As(err, &invalid) {
				t.Errorf("%q: %v", topic, err)
			}
			if _, err := b.WatchTopic(t.Context(), topic); !errors.As(err, &invalid) {
				t.Errorf("a watch of %q: %v", topic, err)
			}
		}
		b.Close()
		if _, err := b.Subscribers(t.Context(), broker.SubscriberList{Topic: "orders.new", Limit: 1}); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("after the broker was closed: %v", err)
		}
		if _, err := b.WatchTopic(t.Context(), "orders.new"); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("a watch after the broker was closed: %v", err)
		}
	})
}

// TestSubscribersDuringADrain checks that streams that are closing aren't listed.
func TestSubscribersDuringADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		for i := range 40 {
			// The connection is full, so the stream stays open while it is drained.
			connect(t, b, broker.Subscription{User: fmt.Sprint("user", i%4), Topics: []string{"orders"}}, 0)
		}
		drained := make(chan error, 1)
		go func() { drained <- b.Drain(t.Context(), 0) }()
		synctest.Wait()
		if users, _ := subscribers(t, b, "orders", 100); len(users) > 0 {
			t.Errorf("%s are listed although their streams are draining", described(users))
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// stuckSink keeps its shard busy until it is released.
type stuckSink struct{ release chan struct{} }

func (s stuckSink) Write(pieces [][]byte) (n int, _ error) {
	<-s.release
	for _, p := range pieces {
		n += len(p)
	}
	return n, nil
}

func (stuckSink) Close(broker.Reason) {}

func TestSubscribersOfABusyShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		release := make(chan struct{})
		if err := b.NewStream(broker.Subscription{User: "alice", Topics: []string{"orders"}}).Start(stuckSink{release}, broker.Opening{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Subscribers(ctx, broker.SubscriberList{Topic: "orders", Limit: 1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline: %v", err)
		}
		if _, err := b.WatchTopic(ctx, "orders"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a watch with a deadline: %v", err)
		}

		ended := make(chan error)
		go func() {
			_, err := b.Subscribers(t.Context(), broker.SubscriberList{Topic: "orders", Limit: 1})
			ended <- err
		}()
		synctest.Wait()
		go b.Close()
		if err := <-ended; !errors.Is(err, broker.ErrClosed) {
			t.Errorf("while the broker is closing: %v", err)
		}
		close(release)
	})
}

// churn opens and closes streams at random: up to n times, or until stop is called. The
// streams subscribe to some of the topics.
func churn(b *broker.Broker, users, topics []string, n int, seed uint64) (stop func()) {
	var running sync.WaitGroup
	ended := make(chan struct{})
	running.Go(func() {
		random := rand.New(rand.NewPCG(seed, 1))
		var open []*broker.Stream
		defer func() {
			for _, st := range open {
				st.HangUp()
			}
		}()
		for range n {
			select {
			case <-ended:
				return
			default:
				runtime.Gosched()
			}
			if len(open) > 50 || len(open) > 0 && random.IntN(2) == 0 {
				i := random.IntN(len(open))
				open[i].HangUp()
				open = slices.Delete(open, i, i+1)
				continue
			}
			st := b.NewStream(broker.Subscription{User: users[random.IntN(len(users))], Topics: someOf(random, topics)})
			if st.Start(sponge{new(atomic.Int64)}, broker.Opening{}) != nil {
				return
			}
			open = append(open, st)
		}
	})
	return func() {
		close(ended)
		running.Wait()
	}
}

// someOf returns up to three different names.
func someOf(random *rand.Rand, names []string) (some []string) {
	for range 1 + random.IntN(3) {
		if name := names[random.IntN(len(names))]; !slices.Contains(some, name) {
			some = append(some, name)
		}
	}
	return some
}

// TestPagesOfSubscribersWhileStreamsChange checks that users whose streams stay open are
// on exactly one page, with all of these streams, while others come and go.
func TestPagesOfSubscribersWhileStreamsChange(t *testing.T) {
	b := broker.New(config())
	defer b.Close()
	patterns := []string{"t.1", "t.2", "t.*", "*.1", ">", "other"}
	users := []string{"", "a", "b", "ba", "c", "d", "e"}
	stop := churn(b, users, patterns, math.MaxInt, 7)
	defer stop()

	rapid.Check(t, func(rt *rapid.T) {
		stable := make(map[string]int)
		topic := rapid.SampledFrom([]string{"t.1", "t.2", "t.*", "other"}).Draw(rt, "topic")
		var opened []*broker.Stream
		defer func() {
			for _, st := range opened {
				st.HangUp()
			}
		}()
		for range rapid.IntRange(0, 20).Draw(rt, "streams") {
			sub := broker.Subscription{
				User:   rapid.SampledFrom(users).Draw(rt, "user"),
				Topics: rapid.SliceOfNDistinct(rapid.SampledFrom(patterns), 1, 4, rapid.ID[string]).Draw(rt, "topics"),
			}
			st := b.NewStream(sub)
			if err := st.Start(sponge{new(atomic.Int64)}, broker.Opening{}); err != nil {
				rt.Fatal(err)
			}
			opened = append(opened, st)
			if slices.ContainsFunc(sub.Topics, func(p string) bool { return broker.Covers(p, topic) }) {
				stable[sub.User]++
			}
		}

		q := broker.SubscriberList{Topic: topic, Limit: rapid.IntRange(1, 4).Draw(rt, "size"), Prefix: rapid.SampledFrom([]string{"", "b"}).Draw(rt, "prefix")}
		listed := make(map[string]int)
		var order []string
		for more := true; more; {
			page, err := b.Subscribers(context.Background(), q)
			if err != nil {
				rt.Fatal(err)
			}
			if page.Anonymous < stable[""] {
				rt.Fatalf("%d anonymous streams, want at least %d", page.Anonymous, stable[""])
			}
			for _, u := range page.Users {
				order = append(order, u.ID)
				listed[u.ID] = u.Connections
			}
			if more = len(page.Users) == q.Limit; more {
				q.After = page.Users[q.Limit-1].ID
			}
		}
		if !slices.IsSorted(order) || len(order) != len(listed) {
			rt.Fatalf("the users are listed as %q", order)
		}
		for user, streams := range stable {
			if user != "" && strings.HasPrefix(user, q.Prefix) && listed[user] < streams {
				rt.Fatalf("%d streams of %s are listed, want at least %d", listed[user], user, streams)
			}
		}
		for user := range listed {
			if !strings.HasPrefix(user, q.Prefix) {
				rt.Fatalf("%q lacks the prefix %q", user, q.Prefix)
			}
		}
	})
}

// BenchmarkSubscribers lists the first 1,000 of 100,000 streams that subscribe to a topic,
// or the only one.
func BenchmarkSubscribers(b *testing.B) {
	const streams = 100_000
	for name, topics := range map[string][]string{"by name": {"orders.new"}, "by pattern": {"orders.*"}, "by two patterns": {"orders.*", "*.new"}, "of a rare topic": {"other"}} {
		b.Run(name, func(b *testing.B) {
			bk := broker.New(config())
			defer bk.Close()
			var pieces atomic.Int64
			for i := range streams {
				sub := broker.Subscription{User: fmt.Sprint("user", i), Topics: topics}
				if i == streams/2 {
					sub.Topics = []string{"orders.new"}
				}
				if err := bk.NewStream(sub).Start(sponge{&pieces}, broker.Opening{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if page, err := bk.Subscribers(b.Context(), broker.SubscriberList{Topic: "orders.new", Limit: 1000}); err != nil || len(page.Users) == 0 {
					b.Fatal(page, err)
				}
			}
		})
	}
}
