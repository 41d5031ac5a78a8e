package redis_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/sourcetest"
)

func TestEntriesBecomeMessages(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), new(sourcetest.Publisher)

	// An entry that exists before the group does, and entries that are added later.
	add(t, client, "events", "topic", "orders.7", "data", `{"n":1}`, "event", "paid", "ttl", "90s", "conflate_key", "k", "retain", "true")

	cfg := config(s, "events")
	cfg.DeadLetter = "dead"
	n := run(t, "a", to, cfg)
	n.WaitForState(t, source.StateActive)

	add(t, client, "events", "user_id", "alice", "data", "hi")
	rejected := add(t, client, "events", "data", "for nobody", "note", "x")
	add(t, client, "events", "everyone", "true", "data", "news", "idempotency_key", "own")

	eventually(t, "all are published", func() error {
		if got := len(to.Messages()); got != 3 {
			return fmt.Errorf("%d are", got)
		}

		return nil
	})

	want := []broker.Message{
		{Audience: broker.ToTopic("orders.7"), Data: `{"n":1}`, Event: "paid", TTL: 90 * time.Second, ConflateKey: "k", Retain: true},
		{Audience: broker.ToUser("alice"), Data: "hi"},
		{Audience: broker.Everyone(), Data: "news", IdempotencyKey: "own"},
	}
	for i, got := range to.Messages() {
		if i < 2 {
			got.IdempotencyKey = ""
		}
		if !reflect.DeepEqual(got, want[i]) {
			t.Errorf("message %d is %+v, want %+v", i, got, want[i])
		}
	}

	eventually(t, "all are acknowledged", func() error { return acknowledged(t, client, "events") })

	dead, err := client.XRange(t.Context(), "dead", "-", "+").Result()
	if err != nil || len(dead) != 1 {
		t.Fatalf("the dead-letter stream has %v (%v), want one entry", dead, err)
	}
	v := dead[0].Values
	if v["note"] != "x" || v["peald-id"] != rejected || v["peald-stream"] != "events" || v["peald-group"] != "peald" || v["peald-error"] == "" {
		t.Errorf("the dead letter is %v", v)
	}
	if length := client.XLen(t.Context(), "events").Val(); length != 4 {
		t.Errorf("the stream has %d entries, want 4", length)
	}
}

// acknowledged returns nil if all entries of a stream are acknowledged.
func acknowledged(tb testing.TB, client *goredis.Client, stream string) error {
	tb.Helper()

	groups, err := client.XInfoGroups(tb.Context(), stream).Result()
	if err != nil {
		return err
	}
	for _, g := range groups {
		if g.Pending != 0 || g.Lag != 0 {
			return fmt.Errorf("group %s has %d pending entries and a lag of %d", g.Name, g.Pending, g.Lag)
		}
	}

	return nil
}

func TestEntriesAreDeleted(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), new(sourcetest.Publisher)
	addNumbered(t, client, "events", 0, 100)

	cfg := config(s, "events")
	cfg.Delete = true
	run(t, "a", to, cfg)
	awaitNumbered(t, to, "events", 100)

	eventually(t, "the stream is empty", func() error {
		if length := client.XLen(t.Context(), "events").Val(); length != 0 {
			return fmt.Errorf("it has %d entries", length)
		}

		return nil
	})
}

// Entries that a reader has read but not acknowledged before it died come first.
func TestPendingEntriesAreClaimed(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), new(sourcetest.Publisher)
	addNumbered(t, client, "events", 0, 100)

	if err := client.XGroupCreate(t.Context(), "events", "peald", "0").Err(); err != nil {
		t.Fatal(err)
	}
	for _, consumer := range []string{"peald:dead", "other", "peald:dead"} {
		err := client.XReadGroup(t.Context(), &goredis.XReadGroupArgs{Group: "peald", Consumer: consumer, Streams: []string{"events", ">"}, Count: 30}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}

	run(t, "a", to, config(s, "events"))
	awaitNumbered(t, to, "events", 100)
	eventually(t, "all are acknowledged", func() error { return acknowledged(t, client, "events") })

	// The next reader removes the consumer of the one that is gone.
	cut(t, s)
	eventually(t, "the consumer is removed", func() error {
		consumers, err := client.XInfoConsumers(t.Context(), "events", "peald").Result()
		if err != nil {
			return err
		}
		names := make([]string, len(consumers))
		for i, c := range consumers {
			names[i] = c.Name
		}
		if got := strings.Join(names, " "); got != "other peald:a" {
			return fmt.Errorf("the consumers are %s", got)
		}

		return nil
	})
}

// cut closes the connections of all clients.
func cut(tb testing.TB, s *sourcetest.Redis) {
	tb.Helper()

	client := s.Client(tb)
	if err := client.ClientKillByFilter(tb.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		tb.Fatal(err)
	}
}

func TestOneNodeReads(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), new(sourcetest.Publisher)

	a := run(t, "a", to, config(s, "events"))
	a.WaitForState(t, source.StateActive)
	b := run(t, "b", to, config(s, "events"))
	b.WaitForState(t, source.StateStandby)

	addNumbered(t, client, "events", 0, 10)
	awaitNumbered(t, to, "events", 10)

	// A node that is stopped releases its lock, so that the other doesn't wait until the
	// lock expires.
	a.Stop()
	if n := client.Exists(t.Context(), "peald:source:{events}:events:peald").Val(); n != 0 && b.Status().State != source.StateActive {
		t.Error("the lock was not released")
	}
	b.WaitForState(t, source.StateActive)
	addNumbered(t, client, "events", 10, 10)
	awaitNumbered(t, to, "events", 20)

	if to.Repeats() > 0 {
		t.Errorf("%d messages were published again", to.Repeats())
	}
}

// A reader that is suspended until its lock has expired, and continues afterwards, does
// no harm.
func TestSuspendedReader(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), new(sourcetest.Publisher)
	addNumbered(t, client, "events", 0, 1000)

	held := hold(t, to)
	a := run(t, "a", held, config(s, "events"))
	<-held.entered

	// The lock expires.
	if n := client.Del(t.Context(), "peald:source:{events}:events:peald").Val(); n != 1 {
		t.Fatal("there is no lock")
	}
	b := run(t, "b", to, config(s, "events"))
	awaitNumbered(t, to, "events", 1000)

	close(held.proceed)
	a.WaitForState(t, source.StateStandby)
	b.WaitForState(t, source.StateActive)
	addNumbered(t, client, "events", 1000, 1000)
	awaitNumbered(t, to, "events", 2000)
	eventually(t, "all are acknowledged", func() error { return acknowledged(t, client, "events") })

	if to.Repeats() == 0 {
		t.Error("the suspended reader published nothing")
	}
}

// After FLUSHALL, the group is created again and reads everything that follows. If only
// the group is removed, the new one continues where the earlier one was.
func TestGroupIsMissing(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), new(sourcetest.Publisher)
	run(t, "a", to, config(s, "events"))
	addNumbered(t, client, "events", 0, 100)
	awaitNumbered(t, to, "events", 100)
	eventually(t, "all are acknowledged", func() error { return acknowledged(t, client, "events") })

	if err := client.XGroupDestroy(t.Context(), "events", "peald").Err(); err != nil {
		t.Fatal(err)
	}
	addNumbered(t, client, "events", 100, 100)
	awaitNumbered(t, to, "events", 200)
	eventually(t, "all are acknowledged", func() error { return acknowledged(t, client, "events") })

	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	addNumbered(t, client, "events", 200, 100)
	awaitNumbered(t, to, "events", 300)

	// Producers that choose ids may start over.
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		err := client.XAdd(t.Context(), &goredis.XAddArgs{Stream: "events", ID: fmt.Sprint(i + 1), Values: []string{"topic", "events", "data", fmt.Sprint(300 + i)}}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	awaitNumbered(t, to, "events", 302)

	if to.Repeats() > 0 {
		t.Errorf("%d messages were published again", to.Repeats())
	}
}

func TestServerIsKilled(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	to := new(sourcetest.Publisher)
	n := run(t, "a", to, config(s, "events"))
	addNumbered(t, s.Client(t), "events", 0, 1000)
	eventually(t, "some are published", func() error {
		if len(to.Messages()) == 0 {
			return errors.New("none are")
		}

		return nil
	})

	s.Kill()
	awaitError(t, n)
	s.Start(t)

	addNumbered(t, s.Client(t), "events", 1000, 1000)
	awaitNumbered(t, to, "events", 2000)
	eventually(t, "all are acknowledged", func() error { return acknowledged(t, s.Client(t), "events") })
}

func TestLag(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), hold(t, new(sourcetest.Publisher))
	before := time.Now().Add(-time.Second)
	addNumbered(t, client, "a", 0, 100)
	addNumbered(t, client, "b", 0, 50)

	n := run(t, "a", to, config(s, "a", "b", "c"))
	eventually(t, "the lag is reported", func() error {
		if lag := n.Status().Lag; lag.Records != 150 || lag.Since.Before(before) || lag.Since.After(time.Now().Add(time.Second)) {
			return fmt.Errorf("it is %+v", lag)
		}

		return nil
	})

	close(to.proceed)
	eventually(t, "the lag is gone", func() error {
		if lag := n.Status().Lag; lag.Records != 0 || !lag.Since.IsZero() {
			return fmt.Errorf("it is %+v", lag)
		}

		return nil
	})
}

// Large entries are read in small batches.
func TestLargeEntries(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), new(sourcetest.Publisher)
	large := strings.Repeat("x", broker.MaxData-10)

	for i := range 40 {
		add(t, client, "events", "topic", "events", "data", fmt.Sprint(i, large))
	}

	run(t, "a", to, config(s, "events"))
	eventually(t, "all are published", func() error {
		if got := len(to.Messages()); got != 40 {
			return fmt.Errorf("%d are", got)
		}

		return nil
	})
	for i, data := range dataOf(to, "events") {
		if data != fmt.Sprint(i, large) {
			t.Errorf("message %d is %.20s…", i, data)
		}
	}
}
