package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// TestLargeEventReplacesQueue publishes an event that is larger than the queue to
// streams whose queue holds 0 to 3 events, none of them partially written.
func TestLargeEventReplacesQueue(t *testing.T) {
	for _, policy := range []broker.SlowPolicy{broker.Disconnect, broker.DropOldest, broker.Conflate} {
		for form, opening := range forms() {
			t.Run(fmt.Sprintf("%s, %s", policy, form), func(t *testing.T) {
				for queued := range 4 {
					synctest.Test(t, func(t *testing.T) { testLargeEvent(t, policy, opening, queued) })
				}
			})
		}
	}
}

func testLargeEvent(t *testing.T, policy broker.SlowPolicy, form broker.Opening, queued int) {
	t.Helper()
	cfg := config()
	cfg.Shards, cfg.QueueBytes, cfg.SlowConsumer = 1, 1000, policy
	b := broker.New(cfg)
	defer b.Close()

	keyed := func(data string) broker.Message {
		return broker.Message{Audience: broker.Everyone(), Data: data, ConflateKey: "key"}
	}
	c := connectAs(t, b, broker.Subscription{}, -1, form)
	first := publish(t, b, keyed("first"))
	synctest.Wait()
	c.drain(0) // the connection is full at the end of an event
	for range queued {
		publish(t, b, keyed("queued"))
		synctest.Wait()
	}
	large := randomText(2000)
	publish(t, b, keyed(large))
	synctest.Wait()

	if policy == broker.Disconnect && queued > 0 {
		if closed, why := c.closed(); !closed || why != broker.SlowConsumer {
			t.Errorf("%d queued: closed %t, reason %v", queued, closed, why)
		}
		return
	}

	c.drain(-1)
	synctest.Wait()
	want := []string{"first", large}
	if policy == broker.DropOldest && queued > 0 {
		want = []string{"first", fmt.Sprintf(`{"reason":"overflow","last_event_id":%q}`, first.ID), large}
	}
	if got := c.data(); !slices.Equal(got, want) {
		t.Errorf("%d queued: got %q, want %q", queued, got, want)
	}
	if s := b.Stats().Total; s.QueuedBytes != 0 || s.Dropped["slow_consumer"] != int64(queued) {
		t.Errorf("%d queued: stats %+v", queued, s)
	}
}

// TestOverflowNamesTheStart checks that a stream that has sent no event reports a
// gap after the position that it started from.
func TestOverflowNamesTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.Shards, cfg.QueueBytes, cfg.SlowConsumer = 1, 500, broker.DropOldest
		b := broker.New(cfg)
		defer b.Close()
		start := publish(t, b, toAll("before the streams"))
		publish(t, b, toUser("alice", "replayed"))
		last := publish(t, b, toUser("bob", "not for alice"))
		synctest.Wait()

		for _, test := range []struct {
			sub  broker.Subscription
			want string
		}{
			{broker.Subscription{User: "carol"}, last.ID},
			{broker.Subscription{User: "alice", LastEventID: start.ID}, start.ID},
		} {
			c := connect(t, b, test.sub, 0)
			synctest.Wait()
			for range 20 {
				publish(t, b, toUser(test.sub.User, "a message that fills the queue"))
				synctest.Wait()
			}
			c.drain(-1)
			synctest.Wait()
			want := fmt.Sprintf(`{"reason":"overflow","last_event_id":%q}`, test.want)
			if got := c.data(); got[0] != want {
				t.Errorf("the stream of %s starts with %q, want %q", test.sub.User, got[0], want)
			}
		}
	})
}

// eagerSink is a sink that asks for a retry at once after each write, like one that
// shares a connection with sinks that make progress. It accepts what room returns.
type eagerSink struct {
	client
	room func() int
}

func (e *eagerSink) Write(pieces [][]byte) (int, error) {
	e.mu.Lock()
	e.client.room = e.room()
	e.mu.Unlock()
	n, err := e.client.Write(pieces)
	time.AfterFunc(time.Second, e.stream.Ready)
	return n, err
}

// TestRetriesDontDeferWriteTimeout retries the writes of a stream whose sink accepts
// nothing. The stream is closed on time, and one that accepts a byte now and then
// isn't.
func TestRetriesDontDeferWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Shards = 1
		b := broker.New(cfg)
		defer b.Close()
		open := func(room func() int) *eagerSink {
			s := &eagerSink{client: client{stream: b.NewStream(broker.Subscription{})}, room: room}
			if err := s.stream.Start(s, broker.Opening{}); err != nil {
				t.Fatal(err)
			}
			return s
		}

		began := time.Now()
		stuck := open(func() int { return 0 })
		slow := open(func() int {
			if time.Since(began)%(25*time.Second) < time.Second {
				return 1
			}
			return 0
		})
		slower := open(func() int {
			if time.Since(began) < 5*time.Second {
				return 1
			}
			return 0
		})
		publish(t, b, toAll(strings.Repeat("x", 1000)))

		wantClosed := func(c *eagerSink, want bool) {
			t.Helper()
			synctest.Wait()
			if closed, why := c.closed(); closed != want || closed && why != broker.WriteTimeout {
				t.Errorf("after %v: closed %v for the reason %v, want %v for the write timeout", time.Since(began), closed, why, want)
			}
		}
		time.Sleep(cfg.WriteTimeout - time.Second)
		wantClosed(stuck, false)
		time.Sleep(2 * time.Second)
		wantClosed(stuck, true)
		wantClosed(slower, false)
		time.Sleep(5 * time.Second)
		wantClosed(slower, true)
		time.Sleep(10 * cfg.WriteTimeout)
		wantClosed(slow, false)
	})
}
