package broker_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// withHistory returns a configuration with a history.
func withHistory() broker.Config {
	cfg := config()
	cfg.History = broker.History{MaxEvents: 1000, MaxBytes: 1 << 20, MaxAge: 10 * time.Minute}
	cfg.IdempotencyWindow = 5 * time.Minute
	return cfg
}

// lastID returns what the client would send as Last-Event-ID.
func (c *client) lastID() string {
	var d eventstream.Decoder
	_, _ = d.Write([]byte(c.text()))
	return d.LastEventID()
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		publish(t, b, toAll("before the stream"))
		c := connect(t, b, broker.Subscription{User: "alice", Topics: []string{"a", "b.*"}}, -1)
		seen := publish(t, b, toAll("seen"))
		synctest.Wait()
		c.stream.HangUp()
		synctest.Wait()
		if c.lastID() != seen.ID {
			t.Fatalf("last event id %q, want %q", c.lastID(), seen.ID)
		}

		for _, m := range []broker.Message{
			toAll("1"), toUser("alice", "2"), toUser("bob", "no"), toTopic("a", "3"), toTopic("b.x", "4"), toTopic("b.x.y", "no"), toAll("5"),
		} {
			publish(t, b, m)
		}

		for name, again := range map[string]broker.Subscription{
			"patterns": {User: "alice", Topics: []string{"a", "b.*"}, LastEventID: c.lastID()},
			"topics":   {User: "alice", Topics: []string{"a", "b.x"}, LastEventID: c.lastID()},
		} {
			resumed := connect(t, b, again, -1)
			synctest.Wait()
			if got := strings.Join(resumed.data(), " "); got != "1 2 3 4 5" {
				t.Errorf("%s: the resumed stream got %q, want 1 to 5", name, got)
			}
			if !strings.Contains(resumed.text(), "\nevent: peald.mark\nid: "+seen.ID+"\ndata:\n\n") {
				t.Errorf("%s: the stream starts with %.60q, want a mark with the position it resumes from", name, resumed.text())
			}
		}

		other := connect(t, b, broker.Subscription{LastEventID: c.lastID()}, -1)
		synctest.Wait()
		if got := strings.Join(other.data(), " "); got != "1 5" {
			t.Errorf("the resumed anonymous stream got %q, want 1 and 5", got)
		}

		if got := b.Stats().Resumes.Replayed; got != 3 {
			t.Errorf("%d resumes are counted, want 3", got)
		}
	})
}

func TestResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History.MaxEvents = 10
		b := broker.New(cfg)
		defer b.Close()
		var ids []string
		for i := range 30 {
			ids = append(ids, publish(t, b, toAll(fmt.Sprint(i))).ID)
		}

		epoch, _, _ := strings.Cut(ids[0], "-")
		for lastID, reason := range map[string]string{
			ids[5]: "expired", ids[18]: "expired", ids[19]: "", ids[29]: "", epoch + "-99": "unknown", "other-3": "unknown",
			"garbage": "unknown", epoch + "-x": "unknown", epoch + "--1": "unknown", epoch: "unknown", "": "",
		} {
			c := connect(t, b, broker.Subscription{LastEventID: lastID}, -1)
			synctest.Wait()
			events := c.events()
			if reason == "" {
				if len(events) > 0 && events[0].typ == "peald.reset" {
					t.Errorf("last event id %q: reset %q, want none", lastID, events[0])
				}
				continue
			}
			want := received{"peald.reset", fmt.Sprintf(`{"reason":%q,"last_event_id":%q}`, reason, lastID), ids[29]}
			if len(events) != 1 || events[0] != want {
				t.Errorf("last event id %q: got %q, want %q", lastID, events, want)
			}
			c.stream.HangUp()
		}

		if resets := b.Stats().Resumes.Resets; resets["expired"] != 2 || resets["unknown"] != 6 {
			t.Errorf("resets %v", resets)
		}
	})
}

func TestHistoryLimits(t *testing.T) {
	for name, c := range map[string]struct {
		history broker.History
		wait    time.Duration
		ttl     time.Duration
		want    int
	}{
		"all":   {broker.History{MaxEvents: 100, MaxBytes: 1 << 30}, 0, 0, 50},
		"count": {broker.History{MaxEvents: 20, MaxBytes: 1 << 30}, 0, 0, 0},
		"bytes": {broker.History{MaxEvents: 100, MaxBytes: 10_000}, 0, 0, 0},
		"age":   {broker.History{MaxEvents: 100, MaxBytes: 1 << 30, MaxAge: time.Minute}, 2 * time.Minute, 0, 0},
		"young": {broker.History{MaxEvents: 100, MaxBytes: 1 << 30, MaxAge: time.Minute}, 30 * time.Second, 0, 50},
		"ttl":   {broker.History{MaxEvents: 100, MaxBytes: 1 << 30}, 2 * time.Minute, time.Minute, 25},
		"none":  {broker.History{}, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config()
				cfg.History = c.history
				b := broker.New(cfg)
				defer b.Close()
				first := publish(t, b, toAll("first"))
				for i := range 50 {
					m := toAll(fmt.Sprint(i))
					if i%2 == 0 {
						m.TTL = c.ttl
					}
					publish(t, b, m)
				}
				time.Sleep(c.wait)
				r := connect(t, b, broker.Subscription{LastEventID: first.ID}, -1)
				synctest.Wait()
				events := r.events()
				reset := len(events) == 1 && strings.Contains(events[0].data, `"expired"`)
				if len(events) != c.want && (c.want != 0 || !reset) {
					t.Errorf("got %d events, want %d (0: a reset); got a reset: %v", len(events), c.want, reset)
				}
			})
		})
	}
}

// TestLargeReplay checks that a client that missed many events gets all of them
// through its limited queue on one stream, however slowly it reads.
func TestLargeReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History = broker.History{MaxEvents: 10_000, MaxBytes: 64 << 20}
		cfg.QueueBytes = 64 << 10
		b := broker.New(cfg)
		defer b.Close()
		first := publish(t, b, toAll("first"))
		var want []string
		for i := range 9_000 {
			want = append(want, fmt.Sprintf("number %d", i))
			publish(t, b, toAll(want[i]))
		}

		for _, topics := range [][]string{nil, {">"}} {
			c := connect(t, b, broker.Subscription{LastEventID: first.ID, Topics: topics}, 0)
			for i := range 100 {
				c.drain(10_000)
				synctest.Wait()
				if q := b.Stats().Total.QueuedBytes; q > 300<<10 {
					t.Fatalf("%d bytes are queued", q)
				}
				if i == 50 && topics == nil {
					want = append(want, "meanwhile")
					publish(t, b, toAll("meanwhile"))
				}
			}
			c.drain(-1)
			synctest.Wait()
			if got := c.data(); !slices.Equal(got, want) {
				t.Errorf("topics %v: got %d events, want %d in order", topics, len(got), len(want))
			}
			c.stream.HangUp()
		}
	})
}

// TestEventsExpireDuringReplay checks that a client gets a reset if its next events
// leave the history during its replay.
func TestEventsExpireDuringReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History.MaxEvents = 600
		b := broker.New(cfg)
		defer b.Close()
		first := publish(t, b, toAll("first"))
		for i := range 599 {
			publish(t, b, toAll(fmt.Sprint(i)))
		}

		c := connect(t, b, broker.Subscription{LastEventID: first.ID}, 0)
		synctest.Wait()
		for i := range 600 {
			publish(t, b, toAll(fmt.Sprint("late ", i)))
		}

		synctest.Wait()
		c.drain(-1)
		synctest.Wait()
		last := publish(t, b, toAll("last"))
		synctest.Wait()
		events := c.events()
		n := len(events)
		if n < 3 || events[n-2].typ != "peald.reset" || !strings.Contains(events[n-2].data, `"reason":"expired"`) || events[n-1].id != last.ID {
			t.Errorf("got %d events that end with %q, want a reset and the last event", n, events[max(0, n-2):])
		}

		if want := fmt.Sprintf(`"last_event_id":%q`, events[n-3].id); n >= 3 && !strings.Contains(events[n-2].data, want) {
			t.Errorf("the reset is %q, want %s in it", events[n-2].data, want)
		}
	})
}

func TestMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		c := connect(t, b, broker.Subscription{}, -1)
		full := connect(t, b, broker.Subscription{User: "alice"}, 0)
		synctest.Wait()
		if c.lastID() == "" || len(c.events()) != 0 {
			t.Errorf("a new stream has last event id %q and events %q, want an id and no events", c.lastID(), c.events())
		}

		r := publish(t, b, toUser("bob", "not for these streams"))
		publish(t, b, toUser("alice", "waits"))
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if c.lastID() <= r.ID {
			t.Errorf("after a heartbeat the last event id is %q, want that of the last published event", c.lastID())
		}

		full.drain(-1)
		synctest.Wait()
		if got := full.data(); !slices.Equal(got, []string{"waits"}) {
			t.Errorf("the full stream got %q", got)
		}

		resumed := connect(t, b, broker.Subscription{User: "alice", LastEventID: c.lastID()}, -1)
		synctest.Wait()
		if len(resumed.events()) != 0 {
			t.Errorf("a stream resumed from a mark got %q", resumed.events())
		}
	})
}

// TestHistoryMemory checks that the history uses about as much memory as its limit
// allows.
func TestHistoryMemory(t *testing.T) {
	for name, message := range map[string]func(i int) broker.Message{
		"small, one audience":   func(int) broker.Message { return toAll("x") },
		"small, many audiences": func(i int) broker.Message { return toUser(fmt.Sprint("user", i), "x") },
		"large":                 func(i int) broker.Message { return toUser(fmt.Sprint("user", i%100), strings.Repeat("x", 4000)) },
		"with a TTL":            func(int) broker.Message { m := toAll("x"); m.TTL = time.Hour; return m },
	} {
		t.Run(name, func(t *testing.T) {
			const bound = 4 << 20
			cfg := config()
			cfg.History = broker.History{MaxEvents: 1 << 30, MaxBytes: bound}
			before := heap()
			b := broker.New(cfg)
			defer b.Close()
			for i := 0; b.Stats().LogBytes < bound*9/10 || i < 5_000; i++ {
				publish(t, b, message(i))
			}
			// Publish twice as many again: evicted events that are still referenced
			// would show up in the heap.
			for i := range 2 * b.Stats().LogEvents {
				publish(t, b, message(i))
			}
			used := int(heap() - before)
			if s := b.Stats(); s.LogBytes > bound || used > bound*5/4 || used < bound/2 {
				t.Errorf("%d events: counted %d bytes and the heap grew by %d, want about %d", s.LogEvents, s.LogBytes, used, bound)
			}
		})
	}
}

// heap returns the memory of live objects.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
