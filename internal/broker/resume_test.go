package broker_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// logged is a set-up with a log.
func logged() broker.Config {
	cfg := config()
	cfg.History = broker.History{MaxEvents: 1000, MaxBytes: 1 << 20, MaxAge: 10 * time.Minute}
	cfg.IdempotencyWindow = 5 * time.Minute
	return cfg
}

// lastID is what the client would send as Last-Event-ID.
func (c *client) lastID() string {
	var d eventstream.Decoder
	_, _ = d.Write([]byte(c.text()))
	return d.LastEventID()
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(logged())
		defer b.Close()
		publish(t, b, toAll("before all"))
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
				t.Errorf("%s: resumed with %q, want 1 to 5", name, got)
			}
			if !strings.Contains(resumed.text(), "\nid: "+seen.ID+"\n\n") {
				t.Errorf("%s: the stream begins with %.60q, want a mark of the position it resumes from", name, resumed.text())
			}
		}
		other := connect(t, b, broker.Subscription{LastEventID: c.lastID()}, -1)
		synctest.Wait()
		if got := strings.Join(other.data(), " "); got != "1 5" {
			t.Errorf("an anonymous stream resumed with %q, want 1 and 5", got)
		}
		if got := b.Stats().Resumes.Replayed; got != 3 {
			t.Errorf("%d resumes counted, want 3", got)
		}
	})
}

func TestResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := logged()
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
			t.Errorf("resets counted: %v", resets)
		}
	})
}

func TestLogBounds(t *testing.T) {
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
					t.Errorf("%d events came back, want %d (0: a reset); reset: %v", len(events), c.want, reset)
				}
			})
		})
	}
}

// TestLargeReplay holds that a client that missed much gets all of it through
// its bounded queue, however slowly it reads, with no cut.
func TestLargeReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := logged()
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
				t.Errorf("topics %v: %d events came, want %d in order", topics, len(got), len(want))
			}
			c.stream.HangUp()
		}
	})
}

// TestReplayThatTheLogOutruns holds that a client too slow for the log is told.
func TestReplayThatTheLogOutruns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := logged()
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
			t.Errorf("the reset is %q, want it to name %s", events[n-2].data, want)
		}
	})
}

func TestMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(logged())
		defer b.Close()
		c := connect(t, b, broker.Subscription{}, -1)
		full := connect(t, b, broker.Subscription{User: "alice"}, 0)
		synctest.Wait()
		if c.lastID() == "" || len(c.events()) != 0 {
			t.Errorf("a new stream has last event id %q and events %q, want an id and none", c.lastID(), c.events())
		}
		r := publish(t, b, toUser("bob", "not for these"))
		publish(t, b, toUser("alice", "waits"))
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if c.lastID() <= r.ID {
			t.Errorf("after a heartbeat the last event id is %q, want that of the last event of all", c.lastID())
		}
		full.drain(-1)
		synctest.Wait()
		if got := full.data(); !slices.Equal(got, []string{"waits"}) {
			t.Errorf("the full stream got %q", got)
		}
		resumed := connect(t, b, broker.Subscription{User: "alice", LastEventID: c.lastID()}, -1)
		synctest.Wait()
		if len(resumed.events()) != 0 {
			t.Errorf("resuming from a mark brought %q", resumed.events())
		}
	})
}

func toTopic(topic, data string) broker.Message {
	return broker.Message{Audience: broker.ToTopic(topic), Data: data}
}

func TestTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(logged())
		defer b.Close()
		clients := map[string]*client{}
		for name, topics := range map[string][]string{
			"none": nil, "one": {"orders.new"}, "two": {"orders.new", "alerts"}, "star": {"orders.*"}, "rest": {"orders.>"},
			"all": {">"}, "doubly": {"orders.new", "orders.*", ">"}, "odd": {"a..b", "*x"},
		} {
			clients[name] = connect(t, b, broker.Subscription{Topics: topics}, -1)
		}
		for topic, want := range map[string]string{
			"orders.new": "all doubly one rest star two", "orders.new.eu": "all doubly rest", "orders": "all doubly", "alerts": "all doubly two",
			"a..b": "odd", "*x": "all doubly odd", "ünï cödé": "all doubly",
		} {
			r := publish(t, b, toTopic(topic, topic))
			synctest.Wait()
			var got []string
			for name, c := range clients {
				switch strings.Count(strings.Join(c.data(), "\n")+"\n", topic+"\n") {
				case 0:
				case 1:
					if slices.Contains(c.data(), topic) {
						got = append(got, name)
					}
				default:
					if n := len(slices.DeleteFunc(c.data(), func(d string) bool { return d != topic })); n > 1 {
						t.Errorf("%s got %q %d times", name, topic, n)
					} else if n == 1 {
						got = append(got, name)
					}
				}
			}
			slices.Sort(got)
			if strings.Join(got, " ") != want || r.Recipients != len(got) {
				t.Errorf("%q went to %q with %d recipients, want %q", topic, got, r.Recipients, want)
			}
		}
		if got := clients["star"].events(); len(got) == 0 || got[0].typ != "topic" {
			t.Errorf("a topic's event is %q, want type topic", got)
		}
		topics := b.Topics("orders", "", 10)
		if want := []broker.Topic{{"orders.*", 2}, {"orders.>", 1}, {"orders.new", 3}}; !slices.Equal(topics, want) {
			t.Errorf("topics %v, want %v", topics, want)
		}
		for _, c := range clients {
			c.stream.HangUp()
		}
		synctest.Wait()
		if got := b.Topics("", "", 10); len(got) != 0 {
			t.Errorf("topics %v are left", got)
		}
		if r := publish(t, b, toTopic("orders.new", "x")); r.Recipients != 0 {
			t.Errorf("%d recipients are left", r.Recipients)
		}
	})
}

func TestTopicNames(t *testing.T) {
	for pattern, ok := range map[string]bool{
		"a": true, "a.b": true, "a..b": true, ".": true, "*": true, ">": true, "a.*.c": true, "a.>": true, "a*": true, "a>b.c": true,
		strings.Repeat("x", 255): true, strings.Repeat("x", 256): false, "": false, "a\nb": false, "a\xff": false,
		">.a": false, "a.>.b": false, "a..*": false, ".>": false, "*.": false,
	} {
		if err := broker.ValidPattern(pattern); (err == nil) != ok {
			t.Errorf("pattern %q: error %v, want valid %v", pattern, err, ok)
		}
	}
	for topic, ok := range map[string]bool{"a.b": true, "a*": true, "a.*": false, ">": false, "": false, "a\x00": false} {
		if err := broker.ValidTopic(topic); (err == nil) != ok {
			t.Errorf("topic %q: error %v, want valid %v", topic, err, ok)
		}
	}
	for _, c := range []struct {
		allowed, pattern string
		want             bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"*", "a", true}, {"*", "*", true}, {"*", ">", false}, {">", ">", true}, {">", "a.b", true},
		{"a.*", "a.b", true}, {"a.*", "a.b.c", false}, {"a.*", "a", false}, {"a.>", "a.b.c", true}, {"a.>", "a.*", true}, {"a.>", "a.*.>", true},
		{"a.>", "a", false}, {"a.>", "b.c", false}, {"*.b", "a.b", true}, {"*.b", "a.*", false}, {"a.b", "a.*", false}, {">", "a..b", false},
		{"a..b", "a..b", true}, {"*", "", false},
	} {
		if got := broker.Covers(c.allowed, c.pattern); got != c.want {
			t.Errorf("%q covers %q: %v, want %v", c.allowed, c.pattern, got, c.want)
		}
	}
}

func TestIdempotency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(logged())
		defer b.Close()
		c := connect(t, b, broker.Subscription{}, -1)
		m := broker.Message{Audience: broker.Everyone(), Data: "once", IdempotencyKey: "k"}
		receipts := make([]broker.Receipt, 20)
		var calls sync.WaitGroup
		for i := range receipts {
			calls.Go(func() { receipts[i], _ = b.Publish(t.Context(), m) })
		}
		calls.Wait()
		for _, r := range receipts {
			if r != receipts[0] || r.ID == "" {
				t.Errorf("receipts %v and %v for one key", r, receipts[0])
			}
		}
		other := m
		other.Data = "other"
		if _, err := b.Publish(t.Context(), other); !errors.Is(err, broker.ErrKeyUsed) {
			t.Errorf("another message with the key: %v", err)
		}
		time.Sleep(6 * time.Minute)
		if r := publish(t, b, other); r.ID == receipts[0].ID {
			t.Errorf("after the window the key still gives %v", r)
		}
		synctest.Wait()
		if got := c.data(); !slices.Equal(got, []string{"once", "other"}) {
			t.Errorf("sent: %q", got)
		}
	})
}

func TestConflation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := logged()
		cfg.SlowConsumer, cfg.QueueBytes, cfg.Shards = broker.Conflate, 1000, 1
		b := broker.New(cfg)
		defer b.Close()
		c := connect(t, b, broker.Subscription{}, -1)
		synctest.Wait()
		c.mu.Lock()
		c.room = 20
		c.mu.Unlock()
		keyed := func(key string, n int) {
			publish(t, b, broker.Message{Audience: broker.Everyone(), Data: fmt.Sprint(key, n), ConflateKey: key})
			synctest.Wait()
		}
		publish(t, b, toAll("cut in its middle"))
		synctest.Wait()
		publish(t, b, toAll("has no key"))
		for i := range 100 {
			keyed("a", i)
			keyed("b", i)
		}
		c.drain(-1)
		synctest.Wait()
		got := c.data()
		if len(got) < 4 || !slices.Equal(got[:2], []string{"cut in its middle", "has no key"}) || !slices.Equal(got[len(got)-2:], []string{"a99", "b99"}) || len(got) > 30 {
			t.Errorf("got %q, want the first two, and the newest of each key", got)
		}
		if !slices.IsSortedFunc(c.events(), func(x, y received) int { return len(x.id) - len(y.id) }) {
			t.Errorf("out of order: %q", c.events())
		}
		c.drain(0)
		for i := range 100 {
			publish(t, b, toAll(fmt.Sprint("no key ", i)))
			synctest.Wait()
		}
		if ended, why := c.end(); !ended || why != broker.SlowConsumer {
			t.Errorf("full of events without a key: ended %v, because %v", ended, why)
		}
	})
}

func TestDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(logged())
		defer b.Close()
		a1 := connect(t, b, broker.Subscription{User: "alice"}, -1)
		a2 := connect(t, b, broker.Subscription{User: "alice"}, -1)
		bob := connect(t, b, broker.Subscription{User: "bob"}, -1)
		if n, err := b.Disconnect("alice", time.Minute); n != 2 || err != nil {
			t.Errorf("disconnected %d (%v), want 2", n, err)
		}
		synctest.Wait()
		for _, c := range []*client{a1, a2} {
			if ended, why := c.end(); !ended || why != broker.Disconnected {
				t.Errorf("ended %v, because %v", ended, why)
			}
		}
		if ended, _ := bob.end(); ended {
			t.Error("bob was disconnected as well")
		}
		if !b.Barred("alice") || b.Barred("bob") {
			t.Errorf("barred: alice %v, bob %v", b.Barred("alice"), b.Barred("bob"))
		}
		time.Sleep(time.Minute)
		if b.Barred("alice") {
			t.Error("alice is still barred")
		}
		if n, err := b.Disconnect("nobody", 0); n != 0 || err != nil {
			t.Errorf("disconnected %d of nobody (%v)", n, err)
		}
		if _, err := b.Disconnect("", 0); err == nil {
			t.Error("an empty user is accepted")
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(logged())
		first := connect(t, b, broker.Subscription{User: "alice"}, -1)
		w, err := b.Watch()
		if err != nil {
			t.Fatal(err)
		}
		if len(w.Present) != 1 || w.Present[0].ID != "alice" || w.Present[0].Connections != 1 {
			t.Errorf("present: %+v", w.Present)
		}
		second := connect(t, b, broker.Subscription{User: "alice"}, -1)
		synctest.Wait()
		first.stream.HangUp()
		synctest.Wait()
		second.fail()
		publish(t, b, toAll("x"))
		synctest.Wait()
		connect(t, b, broker.Subscription{}, -1)
		b.Close()
		var got []string
		for c := range w.C {
			got = append(got, fmt.Sprintf("%s %v %v %d", c.User, c.Open, c.Reason, c.Connections))
		}
		want := []string{"alice true hung_up 2", "alice false hung_up 1", "alice false write_failed 0", " true hung_up 1"}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if err := w.Err(); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("the watch ended with %v", err)
		}
		w.Close()
		if _, err := b.Watch(); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("watching a closed broker: %v", err)
		}
	})
}

// TestLogMemory holds that the log takes the memory that its bounds say.
func TestLogMemory(t *testing.T) {
	for name, message := range map[string]func(i int) broker.Message{
		"small, one audience":   func(int) broker.Message { return toAll("x") },
		"small, many audiences": func(i int) broker.Message { return toUser(fmt.Sprint("user", i), "x") },
		"large":                 func(i int) broker.Message { return toUser(fmt.Sprint("user", i%100), strings.Repeat("x", 4000)) },
		"with an end":           func(int) broker.Message { m := toAll("x"); m.TTL = time.Hour; return m },
	} {
		t.Run(name, func(t *testing.T) {
			const bound = 32 << 20
			cfg := config()
			cfg.History = broker.History{MaxEvents: 1 << 30, MaxBytes: bound}
			before := heap()
			b := broker.New(cfg)
			defer b.Close()
			for i := 0; b.Stats().LogBytes < bound*9/10 || i < 10_000; i++ {
				publish(t, b, message(i))
			}
			// Twice as many, so that what was let go shows if it is still held.
			for i := range 2 * b.Stats().LogEvents {
				publish(t, b, message(i))
			}
			used := int(heap() - before)
			if s := b.Stats(); s.LogBytes > bound || used > bound*5/4 || used < bound/2 {
				t.Errorf("%d events: %d bytes by the log's own count and %d by the runtime's, the bound is %d", s.LogEvents, s.LogBytes, used, bound)
			}
		})
	}
}

// heap is the memory of what is alive.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
