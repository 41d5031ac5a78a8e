package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// TestOverlap compares Overlap with a search for a topic that both patterns match.
func TestOverlap(t *testing.T) {
	tokens := []string{"a", "b", "*", ">", ""}
	names := []string{}
	for _, a := range tokens {
		names = append(names, a)
		for _, b := range tokens {
			names = append(names, a+"."+b)
			for _, c := range tokens {
				names = append(names, a+"."+b+"."+c)
			}
		}
	}
	patterns := slices.DeleteFunc(slices.Clone(names), func(p string) bool { return broker.ValidPattern(p) != nil })
	topics := slices.DeleteFunc(slices.Clone(names), func(p string) bool { return broker.ValidTopic(p) != nil })
	// A pattern such as a.b.> matches longer topics than those above.
	topics = append(topics, "a.a.a.x", "a.a.b.x", "a.b.a.x", "a.b.b.x", "b.a.a.x", "b.a.b.x", "b.b.a.x", "b.b.b.x", "x.x.x.x")

	for _, p := range patterns {
		for _, q := range patterns {
			want := slices.ContainsFunc(topics, func(topic string) bool { return broker.Covers(p, topic) && broker.Covers(q, topic) })
			if got := broker.Overlap(p, q); got != want {
				t.Errorf("Overlap(%q, %q) = %v, want %v", p, q, got, want)
			}
		}
	}
}

// TestFirstPolicyApplies checks with random patterns that the first one that matches a
// topic applies.
func TestFirstPolicyApplies(t *testing.T) {
	names := []string{"a", "b", "a.a", "a.b", "b.a", "a.a.a", "a..b", "ab", "*", ">", "a.*", "*.a", "a.>", "*.>", "a.*.a", "a*", ">a"}
	rapid.Check(t, func(rt *rapid.T) {
		cfg := config()
		cfg.History = broker.History{MaxEvents: 100, MaxBytes: 1 << 20}
		patterns := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 5, rapid.ID).Draw(rt, "patterns")
		for i, pattern := range patterns {
			cfg.Topics = append(cfg.Topics, broker.TopicPolicy{Pattern: pattern, MaxEvents: i + 1})
		}
		b := broker.New(cfg)
		defer b.Close()

		topic := rapid.SampledFrom(names).Filter(func(name string) bool { return broker.ValidTopic(name) == nil }).Draw(rt, "topic")
		for range 10 {
			if _, err := b.Publish(rt.Context(), toTopic(topic, "x")); err != nil {
				rt.Fatal(err)
			}
		}
		want := slices.IndexFunc(patterns, func(p string) bool { return broker.Covers(p, topic) }) + 1
		if want == 0 {
			want = 10
		}
		if got := b.Stats().LogEvents; got != want {
			rt.Errorf("%d events are held for %q, want %d", got, topic, want)
		}
	})
}

// replayed returns the data that a client gets that subscribes to a topic and missed
// everything since an event.
func replayed(t *testing.T, b *broker.Broker, topic string, since broker.Receipt) string {
	t.Helper()
	c := connect(t, b, broker.Subscription{Topics: []string{topic}, LastEventID: since.ID}, -1)
	synctest.Wait()
	c.stream.HangUp()
	synctest.Wait()
	return strings.Join(c.data(), " ")
}

func TestHistoryByTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		hour, minute, none := time.Hour, time.Minute, time.Duration(0)
		cfg.Topics = []broker.TopicPolicy{
			{Pattern: "prices.slow", MaxEvents: 3},
			{Pattern: "prices.>", MaxEvents: 1, MaxAge: &hour},
			{Pattern: "brief", MaxAge: &minute},
			{Pattern: "forever", MaxAge: &none},
		}
		b := broker.New(cfg)
		defer b.Close()

		first := publish(t, b, toTopic("first", "first"))
		for _, topic := range []string{"prices.slow", "prices.eur", "brief", "forever", "other"} {
			publish(t, b, toTopic(topic, "1"))
		}
		second := publish(t, b, toTopic("prices.eur", "2"))
		check := func(when string, want map[string]string) {
			t.Helper()
			for topic, want := range want {
				if got := replayed(t, b, topic, first); !strings.Contains(got, "expired") && got != want || strings.Contains(got, "expired") != (want == "expired") {
					t.Errorf("%s: %s got %q, want %q", when, topic, got, want)
				}
			}
		}
		check("at first", map[string]string{"prices.slow": "1", "prices.eur": "expired", "brief": "1", "forever": "1", "other": "1"})

		publish(t, b, toTopic("prices.eur", "3"))
		if got := replayed(t, b, "prices.eur", second); got != "3" {
			t.Errorf("prices.eur got %q after the last but one event, want 3", got)
		}

		time.Sleep(2 * time.Minute)
		check("after 2m", map[string]string{"prices.slow": "1", "brief": "expired", "forever": "1", "other": "1"})
		time.Sleep(15 * time.Minute)
		check("after 17m", map[string]string{"prices.slow": "expired", "forever": "1", "other": "expired"})
		if got := replayed(t, b, "prices.eur", second); got != "3" {
			t.Errorf("after 17m, prices.eur got %q, want 3", got)
		}
		if st := b.Stats(); st.LogEvents != 2 || time.Since(st.LogSince) < 17*time.Minute {
			t.Errorf("%d events since %v, want the last price and one without a maximum age", st.LogEvents, st.LogSince)
		}
		time.Sleep(time.Hour)
		if got := replayed(t, b, "prices.eur", second); !strings.Contains(got, "expired") {
			t.Errorf("after 77m, prices.eur got %q, want a reset", got)
		}
	})
}

// TestReconfigurePolicies checks that events stay in the history unless a new policy
// removes them, and that open streams miss nothing.
func TestReconfigurePolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		minute := time.Minute
		b := broker.New(cfg)
		defer b.Close()
		c := connect(t, b, broker.Subscription{Topics: []string{">"}}, -1)
		first := publish(t, b, toTopic("x", "0"))
		want := []string{"0"}
		send := func() {
			for i := range 5 {
				for _, topic := range []string{"a", "b", "c"} {
					publish(t, b, toTopic(topic, fmt.Sprint(topic, i)))
					want = append(want, fmt.Sprint(topic, i))
				}
			}
		}
		send()

		cfg.Topics = []broker.TopicPolicy{{Pattern: "a", MaxEvents: 2}, {Pattern: "b", MaxAge: &minute}}
		b.Reconfigure(cfg)
		if got := b.Stats().LogEvents; got != 1+2+5+5 {
			t.Errorf("%d events are left, want 13", got)
		}
		if got := replayed(t, b, "b", first); got != "b0 b1 b2 b3 b4" {
			t.Errorf("b got %q", got)
		}
		if got := replayed(t, b, "a", first); !strings.Contains(got, "expired") {
			t.Errorf("a got %q, want a reset", got)
		}

		time.Sleep(2 * time.Minute)
		if got := b.Stats().LogEvents; got != 1+2+5 {
			t.Errorf("%d events are left after 2m, want 8", got)
		}

		cfg.Topics = nil
		b.Reconfigure(cfg)
		send()
		if got := replayed(t, b, "c", first); got != "c0 c1 c2 c3 c4 c0 c1 c2 c3 c4" {
			t.Errorf("c got %q", got)
		}
		if got := replayed(t, b, "b", first); !strings.Contains(got, "expired") {
			t.Errorf("b got %q, want a reset", got)
		}
		if got := c.data(); !slices.Equal(got, want) {
			t.Errorf("the open stream got %q, want %q", got, want)
		}
	})
}

// TestSlowConsumersByTopic fills the queue of a stream with events for topics with
// different policies.
func TestSlowConsumersByTopic(t *testing.T) {
	for name, disabled := range map[string]bool{"with a history": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := withHistory()
				if disabled {
					cfg.History.MaxEvents = 0
				}
				cfg.QueueBytes = 2000
				cfg.Topics = []broker.TopicPolicy{
					{Pattern: "prices.*", SlowConsumer: broker.Conflate},
					{Pattern: "logs", SlowConsumer: broker.DropOldest},
				}
				b := broker.New(cfg)
				defer b.Close()
				c := connect(t, b, broker.Subscription{Topics: []string{"prices.*", "logs", "orders"}}, 0)
				synctest.Wait()

				publish(t, b, toTopic("orders", "first"))
				for i := range 100 {
					m := toTopic("prices.eur", fmt.Sprint(i))
					m.ConflateKey = "eur"
					publish(t, b, m)
					publish(t, b, toTopic("logs", fmt.Sprint("log ", i)))
				}
				publish(t, b, toTopic("orders", "last"))
				synctest.Wait()
				if closed, why := c.closed(); closed {
					t.Fatalf("the stream was closed: %v", why)
				}
				c.drain(-1)
				synctest.Wait()

				got := c.data()
				if n := len(got); n < 10 || got[0] != "first" || got[n-1] != "last" || got[n-2] != "log 99" || !slices.Contains(got, "99") || !strings.Contains(strings.Join(got, " "), "overflow") {
					t.Errorf("got %q, want all orders, the last price, the last logs and a reset", got)
				}

				c.drain(0)
				for range 100 {
					publish(t, b, toTopic("orders", strings.Repeat("x", 100)))
				}
				synctest.Wait()
				if closed, _ := c.closed(); !closed {
					t.Error("the stream is still open, although its queue is full of orders")
				}
			})
		})
	}
}
