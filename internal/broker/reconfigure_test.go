package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// TestHeartbeatChanges checks that open streams follow a new heartbeat interval,
// and that during the change no stream is silent for longer than it would have been
// without it.
func TestHeartbeatChanges(t *testing.T) {
	for name, change := range map[string]struct{ from, to time.Duration }{
		"sooner": {15 * time.Second, 2 * time.Second},
		"later":  {2 * time.Second, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config()
				cfg.Heartbeat = change.from
				b := broker.New(cfg)
				defer b.Close()
				var clients []*client
				for range 60 {
					clients = append(clients, connect(t, b, broker.Subscription{}, -1))
				}
				expiring := connect(t, b, broker.Subscription{User: "alice", Expires: time.Now().Add(50 * time.Second)}, -1)
				// beats waits, and returns how many heartbeats each client has got
				// since the last call.
				seen := make([]int, len(clients))
				beats := func(wait time.Duration) []int {
					time.Sleep(wait)
					synctest.Wait()
					now := make([]int, len(clients))
					for i, c := range clients {
						n := strings.Count(c.text(), "event: peald.mark\n")
						now[i], seen[i] = n-seen[i], n
					}
					return now
				}
				beats(20 * time.Second)
				cfg.Heartbeat = change.to
				b.Reconfigure(cfg)
				if change.to < change.from {
					if few := slices.Min(beats(change.to + change.to/2)); few < 1 {
						t.Error("a stream got no heartbeat within the new interval")
					}
				} else {
					beats(change.to + change.from)
				}
				const periods = 4
				got := beats(periods * change.to)
				if slices.Min(got) < periods-1 || slices.Max(got) > periods+2 {
					t.Errorf("in %d intervals of %v, streams got %v heartbeats", periods, change.to, got)
				}
				time.Sleep(50 * time.Second)
				synctest.Wait()
				if closed, why := expiring.closed(); !closed || why != broker.Expired {
					t.Errorf("stream with an expired token: closed %v, reason %v", closed, why)
				}
			})
		})
	}
}

func TestQueueAndPolicyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		b := broker.New(cfg)
		defer b.Close()
		slow := connect(t, b, broker.Subscription{}, 0)
		send := func(n int) {
			for i := range n {
				publish(t, b, toAll(fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000))))
			}
			synctest.Wait()
		}

		send(20)
		cfg.QueueBytes, cfg.SlowConsumer = 5000, broker.DropOldest
		b.Reconfigure(cfg)
		synctest.Wait()
		if closed, why := slow.closed(); closed {
			t.Fatalf("the change closed a stream, reason %v", why)
		}

		send(1)
		if waits := b.Stats().Total.QueuedBytes; waits > 6000 {
			t.Errorf("%d bytes are queued for a stream, want at most about 5000", waits)
		}

		if dropped := b.Stats().Total.Dropped["slow_consumer"]; dropped < 15 {
			t.Errorf("%d events were dropped, want most of 20", dropped)
		}

		cfg.SlowConsumer = broker.Disconnect
		b.Reconfigure(cfg)
		send(5)
		if closed, why := slow.closed(); !closed || why != broker.SlowConsumer {
			t.Errorf("with the new policy: closed %v, reason %v", closed, why)
		}
	})
}

func TestRetryAndWriteTimeoutChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		b := broker.New(cfg)
		defer b.Close()
		dead := connect(t, b, broker.Subscription{}, 0)
		time.Sleep(20 * time.Second)
		cfg.Retry, cfg.WriteTimeout = time.Minute, 10*time.Second
		b.Reconfigure(cfg)
		c := connect(t, b, broker.Subscription{}, -1)
		time.Sleep(time.Second)
		synctest.Wait()
		if closed, why := dead.closed(); !closed || why != broker.WriteTimeout {
			t.Errorf("connection that accepted nothing for 21 s: closed %v, reason %v", closed, why)
		}
		var retry int
		if _, err := fmt.Sscanf(c.text(), "retry: %d", &retry); err != nil || retry < 45_000 || retry > 75_000 {
			t.Errorf("a new stream starts with %.40q, want a retry of about a minute", c.text())
		}
	})
}

func TestHistoryLimitsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		b := broker.New(cfg)
		defer b.Close()
		var ids []string
		send := func(n int) {
			for range n {
				ids = append(ids, publish(t, b, toAll(fmt.Sprint(len(ids)))).ID)
			}
		}

		// resumed returns the number of events that a resumed stream gets, or
		// "reset".
		resumed := func(lastID string) string {
			c := connect(t, b, broker.Subscription{LastEventID: lastID}, -1)
			defer c.stream.HangUp()
			synctest.Wait()
			events := c.events()
			if len(events) > 0 && events[0].typ == "peald.reset" {
				return "reset"
			}
			return fmt.Sprint(len(events))
		}

		check := func(what, lastID, want string) {
			t.Helper()
			if got := resumed(lastID); got != want {
				t.Errorf("%s: the resumed stream got %s, want %s", what, got, want)
			}
		}

		send(50)
		check("before the change", ids[0], "49")
		cfg.History.MaxEvents = 10
		b.Reconfigure(cfg)
		check("beyond the lower limit", ids[0], "reset")
		check("within the lower limit", ids[39], "10")
		if held := b.Stats().LogEvents; held != 10 {
			t.Errorf("the history holds %d events, want 10", held)
		}

		cfg.History.MaxEvents = 0
		b.Reconfigure(cfg)
		send(1)
		check("without a history", ids[49], "reset")
		if st := b.Stats(); st.LogEvents != 0 || st.LogBytes != 0 {
			t.Errorf("the disabled history holds %d events in %d bytes", st.LogEvents, st.LogBytes)
		}

		cfg.History.MaxEvents = 10
		b.Reconfigure(cfg)
		send(5)
		check("with a history again", ids[50], "5")
		check("from before the history", ids[49], "reset")
		cfg.History.MaxAge = time.Second
		b.Reconfigure(cfg)
		time.Sleep(2 * time.Second)
		check("beyond the maximum age", ids[50], "reset")
	})
}

func TestIdempotencyWindowChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		b := broker.New(cfg)
		defer b.Close()
		m := broker.Message{Audience: broker.Everyone(), Data: "x", IdempotencyKey: "k"}
		first := publish(t, b, m)
		time.Sleep(time.Minute)
		if again := publish(t, b, m); again != first {
			t.Fatalf("within the window the key returns %v, want %v", again, first)
		}
		cfg.IdempotencyWindow = time.Second
		b.Reconfigure(cfg)
		if again := publish(t, b, m); again == first {
			t.Error("after the new window the key still returns the first receipt")
		}
	})
}

// TestChangesUnderLoad reconfigures under load, for the race detector.
func TestChangesUnderLoad(t *testing.T) {
	cfg := withHistory()
	b := broker.New(cfg)
	ctx := t.Context()
	var clients []*client
	for i := range 50 {
		clients = append(clients, connect(t, b, broker.Subscription{User: fmt.Sprint(i % 7)}, -1))
	}

	var running sync.WaitGroup
	const events = 400
	for range 2 {
		running.Go(func() {
			for i := range events {
				if _, err := b.Publish(ctx, toAll(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}

	running.Go(func() {
		for i := range 100 {
			next := cfg
			next.Heartbeat = time.Duration(1+i%3) * time.Second
			next.History.MaxEvents = i % 5 * 100
			next.QueueBytes = 1<<20 + i
			b.Reconfigure(next)
			connect(t, b, broker.Subscription{LastEventID: "x-1"}, -1)
		}
	})

	running.Wait()
	b.Close()
	b.Reconfigure(cfg) // no longer has an effect
	for i, c := range clients {
		if got := len(c.events()); got != 2*events {
			t.Errorf("client %d got %d events, want %d", i, got, 2*events)
		}
	}
}
