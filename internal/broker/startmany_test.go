package broker_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// held returns the data of the events that the history holds.
func held(t *testing.T, b *broker.Broker) map[string]bool {
	t.Helper()
	end, err := b.Position()
	if err != nil {
		t.Fatal(err)
	}
	epoch, _, _ := strings.Cut(end, "-")
	tap, err := b.Tap(broker.Audience{}, epoch+"-0")
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	all := make(map[string]bool)
	for {
		batch, err := tap.Take()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range batch.Messages {
			all[m.Data] = true
		}
		if batch.Position == end {
			return all
		}
	}
}

// TestStartsAmongManyEvents compares streams with a simple model: among events for many
// audiences, in more than one piece, and at a small maximum of the history. With few
// topics, the history is read by topic for streams with patterns, too.
func TestStartsAmongManyEvents(t *testing.T) {
	for _, topics := range []int{50, 1000, 5000} {
		t.Run(fmt.Sprint(topics), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { startAmongManyEvents(t, topics) }) })
	}
}

func startAmongManyEvents(t *testing.T, numTopics int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	cfg := withHistory()
	cfg.History = broker.History{MaxEvents: 9000, MaxBytes: 1 << 30}
	cfg.Heartbeat = time.Hour // shards wake up less often in the hour that passes
	b := broker.New(cfg)
	defer b.Close()
	var topics, sent, ids []string
	var times []time.Time
	topic := func() string {
		n := random.IntN(numTopics)
		return fmt.Sprintf("t.%d.%d", n%9, n)
	}
	for i := range 12_000 {
		if random.IntN(3) == 0 {
			time.Sleep(time.Second)
		}
		to := topic()
		ids = append(ids, publish(t, b, toTopic(to, fmt.Sprint(i))).ID)
		topics, sent, times = append(topics, to), append(sent, fmt.Sprint(i)), append(times, time.Now())
	}

	kept := held(t, b)
	for range 60 {
		sub := broker.Subscription{Topics: []string{topic()}}
		switch random.IntN(6) {
		case 0:
			sub.Topics[0] = "t.>"
		case 1, 2:
			sub.Topics[0] = fmt.Sprintf("t.%d.*", random.IntN(9))
		case 3:
			sub.Topics[0] = fmt.Sprintf("*.*.%d", random.IntN(numTopics))
		}
		for range random.IntN(3) {
			sub.Topics = append(sub.Topics, topic())
		}
		slices.Sort(sub.Topics)
		sub.Topics = slices.Compact(sub.Topics)

		known := make(map[string]bool) // by topic, since Covers is slow with the race detector
		matches := func(i int) bool {
			matched, ok := known[topics[i]]
			if !ok {
				matched = slices.ContainsFunc(sub.Topics, func(p string) bool { return broker.Covers(p, topics[i]) })
				known[topics[i]] = matched
			}
			return matched
		}
		first, limit := 0, len(sent)
		switch i := 1 + random.IntN(len(sent)-1); random.IntN(4) {
		case 0:
			sub.Start = broker.SinceAll()
		case 1:
			sub.Start = broker.SinceTime(times[i])
			first = slices.IndexFunc(times, func(at time.Time) bool { return !at.Before(times[i]) })
		case 2:
			sub.LastEventID, first = ids[i-1], i
		default:
			limit = 1 + random.IntN(broker.MaxRewind)
			sub.Start = broker.Rewind(limit)
		}

		var visible []string
		lost := false
		for i := first; i < len(sent); i++ {
			if matches(i) && kept[sent[i]] {
				visible = append(visible, sent[i])
			}
			lost = lost || matches(i) && !kept[sent[i]]
		}
		want := strings.Join(visible[max(0, len(visible)-limit):], " ")
		c := connect(t, b, sub, -1)
		synctest.Wait()
		got := c.dataAndResets()
		switch {
		case lost && sub.LastEventID != "":
			before, reset := strings.CutSuffix(got, "[expired]") // with a pattern, after some events
			if !reset || !strings.HasPrefix(want, before) {
				t.Fatalf("%+v: got %.200q, want a reset, at most after %.200q", sub, got, want)
			}
		case lost && first > 0:
			want = strings.TrimSuffix("[expired] "+want, " ")
			fallthrough
		default:
			if got != want {
				t.Fatalf("%+v: got %.200q, want %.200q", sub, got, want)
			}
		}
		c.stream.HangUp()
	}
}

// TestStartWhileMarksAreForgotten starts streams whose next events are evicted while they
// are read slowly. At the same time, the history forgets a later mark that is older than
// the streams. They must get a reset.
func TestStartWhileMarksAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const held = 400
		cfg := withHistory()
		cfg.History = broker.History{MaxEvents: 100_000, MaxBytes: 1 << 20}
		cfg.Topics = []broker.TopicPolicy{{Pattern: "a", MaxEvents: held}, {Pattern: "gone.>", MaxAge: new(time.Second)}}
		b := broker.New(cfg)
		defer b.Close()
		next, marks := 0, 0
		publishMore := func(n int) {
			for range n {
				publish(t, b, toTopic("a", fmt.Sprint(next)))
				next++
			}
		}
		addMarks := func(n int) {
			for range n {
				publish(t, b, toTopic(fmt.Sprintf("gone.%0200d", marks), "x"))
				marks++
			}
			time.Sleep(2 * time.Second)
		}

		publishMore(held)
		addMarks(1<<20/16/505 - 1) // about as many as are remembered
		clients := []*client{
			connect(t, b, broker.Subscription{Topics: []string{"a"}, Start: broker.SinceAll()}, 0),
			connect(t, b, broker.Subscription{Topics: []string{"a", "a.*"}, Start: broker.SinceAll()}, 0),
		}
		synctest.Wait()
		publishMore(held - 100)
		addMarks(3)
		for i, c := range clients {
			c.drain(1 << 20)
			synctest.Wait()
			want := 0
			for _, e := range c.events() {
				if e.typ == "peald.reset" {
					want = next
					break
				}
				if e.data != fmt.Sprint(want) {
					t.Fatalf("stream %d got %q after %d", i, e.data, want-1)
				}
				want++
			}
			if want != next {
				t.Errorf("stream %d got %d events, want %d or a reset", i, want, next)
			}
		}
	})
}

// TestStartThatLosesEventsAmongManyOthers evicts events for a stream with a pattern while
// it is read slowly. The mark of the last one is far behind the stream's position, so
// that it is found by topic.
func TestStartThatLosesEventsAmongManyOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const held = 600
		cfg := withHistory()
		cfg.History = broker.History{MaxEvents: 100_000, MaxBytes: 1 << 30}
		cfg.Topics = []broker.TopicPolicy{{Pattern: "wanted.*", MaxEvents: held}}
		b := broker.New(cfg)
		defer b.Close()
		next, began := 0, time.Now()
		wanted := func(n int) {
			for range n {
				publish(t, b, toTopic("wanted.x", fmt.Sprint(next)))
				next++
			}
		}
		wanted(held / 2)
		for range 5000 {
			publish(t, b, toTopic("other", "x"))
		}
		wanted(held / 2)
		c := connect(t, b, broker.Subscription{Topics: []string{"wanted.*"}, Start: broker.SinceAll()}, 0)
		synctest.Wait()
		wanted(held - 100)
		c.drain(1 << 20)
		synctest.Wait()

		events := c.events()
		for i, e := range events[:len(events)-1] {
			if e.data != fmt.Sprint(i) {
				t.Fatalf("got %v after %d events", e, i)
			}
		}
		if last := events[len(events)-1]; last.typ != "peald.reset" || len(events) < 2 {
			t.Errorf("got %d events and then %v, want some and a reset", len(events)-1, last)
		}

		again := connect(t, b, broker.Subscription{Topics: []string{">"}, Start: broker.SinceTime(began)}, -1)
		synctest.Wait()
		if got := again.dataAndResets(); !strings.HasPrefix(got, "[expired] x x ") || strings.Count(got, "[") != 1 {
			t.Errorf("a stream that starts before the lost events gets %.200s, want a reset first", got)
		}
	})
}
