package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/peald/peald/internal/broker"
)

func TestSlowClientDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Shards, cfg.QueueBytes = 1, 2000
		b := broker.New(cfg)
		defer b.Close()
		slow := connect(t, b, broker.Subscription{}, 10)
		fast := connect(t, b, broker.Subscription{}, -1)
		for i := range 100 {
			publish(t, b, toAll(fmt.Sprint(i)))
			synctest.Wait()
		}
		if got := len(fast.data()); got != 100 {
			t.Errorf("the fast client got %d events, want 100", got)
		}
		if closed, why := slow.closed(); !closed || why != broker.SlowConsumer {
			t.Errorf("slow client: closed %v, reason %v", closed, why)
		}
		s := b.Stats().Total
		if s.Disconnected["slow_consumer"] != 1 || s.Dropped["slow_consumer"] == 0 || s.QueuedBytes != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestDropOldestMarksTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Shards, cfg.QueueBytes, cfg.SlowConsumer = 1, 500, broker.DropOldest
		b := broker.New(cfg)
		defer b.Close()
		c := connect(t, b, broker.Subscription{}, -1)
		first := publish(t, b, toAll("first"))
		synctest.Wait()
		c.mu.Lock()
		c.room = 20 // this splits the next frame in the middle
		c.mu.Unlock()
		var ids []string
		for i := range 50 {
			ids = append(ids, publish(t, b, toAll(fmt.Sprintf("number %d", i))).ID)
			if i == 0 {
				synctest.Wait()
			}
		}

		synctest.Wait()
		if q := b.Stats().Total.QueuedBytes; q == 0 || q > 700 {
			t.Errorf("%d bytes are queued, want about 500", q)
		}

		c.drain(-1)
		synctest.Wait()
		events := c.events()
		if events[0].id != first.ID || events[1].data != "number 0" {
			t.Fatalf("the stream starts with %q", events[:2])
		}

		if want := (received{"peald.reset", fmt.Sprintf(`{"reason":"overflow","last_event_id":%q}`, ids[0]), ids[0]}); events[2] != want {
			t.Errorf("the gap is marked by %q, want %q", events[2], want)
		}

		rest := events[3:]
		for i, e := range rest {
			if want := ids[len(ids)-len(rest)+i]; e.id != want {
				t.Errorf("after the gap: got %q, want %s", e, want)
			}
		}

		if dropped := b.Stats().Total.Dropped["slow_consumer"]; int(dropped) != 49-len(rest) {
			t.Errorf("%d events are counted as dropped, want %d", dropped, 49-len(rest))
		}

		publish(t, b, toAll("last"))
		synctest.Wait()
		if data := c.data(); data[len(data)-1] != "last" {
			t.Errorf("the stream doesn't continue after the gap: %q", data)
		}
	})
}

func TestPartialFramesAreContinued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		c := connect(t, b, broker.Subscription{}, 0)
		var want []string
		for i := range 20 {
			want = append(want, strings.Repeat("x", i*7%13)+fmt.Sprint(i))
			publish(t, b, toAll(want[i]))
		}
		for range 400 {
			c.drain(3)
			synctest.Wait()
		}
		if got := c.data(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestFastPublisherDoesNotMakeClientsSlow checks that if a publisher outruns the
// shard, clients that accept everything aren't treated as slow consumers.
func TestFastPublisherDoesNotMakeClientsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Shards, cfg.QueueBytes = 1, 4096
		b := broker.New(cfg)
		defer b.Close()
		clients := []*client{
			connect(t, b, broker.Subscription{User: "alice"}, -1),
			connect(t, b, broker.Subscription{}, -1),
		}

		want := make([]string, 20_000)
		for i := range want {
			want[i] = fmt.Sprint("number ", i)
			publish(t, b, toAll(want[i]))
		}

		synctest.Wait()
		for i, c := range clients {
			if closed, why := c.closed(); closed {
				t.Errorf("client %d was closed, reason %v", i, why)
			}
			if got := c.data(); !slices.Equal(got, want) {
				t.Errorf("client %d got %d of %d events", i, len(got), len(want))
			}
		}
	})
}

func TestBurstIsCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		c := connect(t, b, broker.Subscription{}, 0)
		for i := range 200 {
			publish(t, b, toAll(fmt.Sprint(i)))
		}
		synctest.Wait()
		before := c.writes
		c.drain(-1)
		synctest.Wait()
		if got := len(c.data()); got != 200 || c.writes != before+1 {
			t.Errorf("got %d events in %d writes, want 200 in one", got, c.writes-before)
		}
	})
}
