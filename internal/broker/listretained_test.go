package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// named returns what a list has for an audience: its name, and the number of its values.
func named(a broker.RetainedAudience) string {
	name := "all"
	if user, ok := a.Audience.User(); ok {
		name = "user:" + user
	} else if topic, ok := a.Audience.Topic(); ok {
		name = "topic:" + topic
	}
	return fmt.Sprint(name, " ", a.Values)
}

// listed returns all audiences that have values, read in pages of the given size.
func listed(t *testing.T, b *broker.Broker, pattern string, size int) (names []string, bytes int) {
	t.Helper()
	q := broker.RetainedList{Pattern: pattern, Limit: size}
	for more := true; more; more = q.After != (broker.Audience{}) {
		page, err := b.RetainedAudiences(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Audiences) > size {
			t.Fatalf("a page has %d audiences, want up to %d", len(page.Audiences), size)
		}
		for _, a := range page.Audiences {
			names = append(names, named(a))
			bytes += a.Bytes
		}
		q.After = page.Next
	}
	return names, bytes
}

func TestRetainedAudiences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withRetain())
		defer b.Close()
		if got, _ := listed(t, b, "", 1); len(got) != 0 {
			t.Errorf("without values: %q", got)
		}
		for _, m := range []broker.Message{
			toTopic("prices.usd", "1"), toUser("bob", "2"), toTopic("prices", "3"), toAll("4"), toUser("alice", "5"), toTopic("prices..x", "6"),
		} {
			publish(t, b, retain(m, ""))
			publish(t, b, m)
		}
		publish(t, b, retain(toTopic("prices.eur", "7"), "a"))
		brief := retain(toTopic("prices.eur", "8"), "b")
		brief.TTL = time.Second
		publish(t, b, brief)

		want := []string{"all 1", "user:alice 1", "user:bob 1", "topic:prices 1", "topic:prices..x 1", "topic:prices.eur 2", "topic:prices.usd 1"}
		for _, size := range []int{1, 2, 3, 6, 7, 100} {
			got, bytes := listed(t, b, "", size)
			if !slices.Equal(got, want) || bytes != b.Stats().RetainedBytes {
				t.Errorf("pages of %d: %q with %d bytes, want %q with %d", size, got, bytes, want, b.Stats().RetainedBytes)
			}
		}
		for pattern, want := range map[string][]string{
			"prices.*": {"topic:prices.eur 2", "topic:prices.usd 1"}, "prices": {"topic:prices 1"}, "alice": nil,
			">": {"topic:prices 1", "topic:prices.eur 2", "topic:prices.usd 1"}, "prices..x": {"topic:prices..x 1"},
		} {
			if got, _ := listed(t, b, pattern, 1); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", pattern, got, want)
			}
		}

		time.Sleep(time.Second)
		if got, _ := listed(t, b, "prices.eur", 1); !slices.Equal(got, []string{"topic:prices.eur 1"}) {
			t.Errorf("after the time to live: %q", got)
		}
		if n, err := b.ClearRetained(t.Context(), broker.Clear{All: true}); n != 7 || err != nil {
			t.Errorf("cleared %d values, %v; want 7", n, err)
		}
		if got, _ := listed(t, b, "", 1); len(got) != 0 || b.Stats().RetainedEvents != 0 || b.Stats().RetainedBytes != 0 {
			t.Errorf("%q are left: %+v", got, b.Stats())
		}
		publish(t, b, retain(toTopic("prices", "9"), ""))
		if got := valuesOf(t, b, "prices"); got != "9 mark" {
			t.Errorf("after everything was cleared, a stream got %q", got)
		}

		var invalid *broker.InvalidError
		if _, err := b.RetainedAudiences(t.Context(), broker.RetainedList{Pattern: "a.>.b", Limit: 1}); !errors.As(err, &invalid) {
			t.Errorf("for an invalid pattern: %v", err)
		}
		for _, c := range []broker.Clear{{All: true, Audience: broker.Everyone()}, {All: true, ConflateKey: new(string)}} {
			if _, err := b.ClearRetained(t.Context(), c); !errors.As(err, &invalid) {
				t.Errorf("%+v: %v", c, err)
			}
		}
		b.Close()
		if _, err := b.RetainedAudiences(t.Context(), broker.RetainedList{Limit: 1}); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("after the broker was closed: %v", err)
		}
	})
}

// TestManyRetainedAudiences lists more audiences than are read under one lock.
func TestManyRetainedAudiences(t *testing.T) {
	const many = 9000
	cfg := withRetain()
	cfg.Retain = broker.Retain{MaxEvents: many, MaxBytes: 1 << 30}
	b := broker.New(cfg)
	defer b.Close()
	for i := range many {
		publish(t, b, retain(toTopic(fmt.Sprint("t.", (i*7919)%many), "x"), ""))
	}
	got, bytes := listed(t, b, "", 1000)
	if len(got) != many || !slices.IsSorted(got) || bytes != b.Stats().RetainedBytes {
		t.Errorf("%d audiences with %d bytes, want %d with %d, in order", len(got), bytes, many, b.Stats().RetainedBytes)
	}
}
