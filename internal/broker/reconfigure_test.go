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

// TestHeartbeatChanges holds that streams which are open follow a new time
// between heartbeats, and that none is silent for longer on the way there than
// it would have been.
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
				// beats is how many heartbeats each has got since the last call.
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
						t.Error("a stream has got no heartbeat within the new time")
					}
				} else {
					beats(change.to + change.from)
				}
				const periods = 4
				got := beats(periods * change.to)
				if slices.Min(got) < periods-1 || slices.Max(got) > periods+2 {
					t.Errorf("in %d periods of %v streams got %v heartbeats", periods, change.to, got)
				}
				time.Sleep(50 * time.Second)
				synctest.Wait()
				if ended, why := expiring.end(); !ended || why != broker.Expired {
					t.Errorf("the stream whose token has ended: ended %v, because %v", ended, why)
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
		if ended, why := slow.end(); ended {
			t.Fatalf("the change by itself has ended a stream, because %v", why)
		}
		send(1)
		if waits := b.Stats().Total.QueuedBytes; waits > 6000 {
			t.Errorf("%d bytes wait for a stream, of which 5000 may", waits)
		}
		if dropped := b.Stats().Total.Dropped["slow_consumer"]; dropped < 15 {
			t.Errorf("%d events were dropped, want most of 20", dropped)
		}
		cfg.SlowConsumer = broker.Disconnect
		b.Reconfigure(cfg)
		send(5)
		if ended, why := slow.end(); !ended || why != broker.SlowConsumer {
			t.Errorf("by the new policy: ended %v, because %v", ended, why)
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
		if ended, why := dead.end(); !ended || why != broker.WriteTimeout {
			t.Errorf("the socket that has taken nothing for 21s: ended %v, because %v", ended, why)
		}
		var retry int
		if _, err := fmt.Sscanf(c.text(), "retry: %d", &retry); err != nil || retry < 45_000 || retry > 75_000 {
			t.Errorf("a new stream begins with %.40q, want retry: to be about a minute", c.text())
		}
	})
}

func TestLogBoundsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := logged()
		b := broker.New(cfg)
		defer b.Close()
		var ids []string
		send := func(n int) {
			for range n {
				ids = append(ids, publish(t, b, toAll(fmt.Sprint(len(ids)))).ID)
			}
		}
		// resumed is what a stream that comes back gets, or why it is reset.
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
				t.Errorf("%s: a resume gets %s, want %s", what, got, want)
			}
		}
		send(50)
		check("at the beginning", ids[0], "49")
		cfg.History.MaxEvents = 10
		b.Reconfigure(cfg)
		check("past the lower bound", ids[0], "reset")
		check("within it", ids[39], "10")
		if held := b.Stats().LogEvents; held != 10 {
			t.Errorf("the log holds %d events, want 10", held)
		}
		cfg.History.MaxEvents = 0
		b.Reconfigure(cfg)
		send(1)
		check("without a log", ids[49], "reset")
		if st := b.Stats(); st.LogEvents != 0 || st.LogBytes != 0 {
			t.Errorf("no log holds %d events in %d bytes", st.LogEvents, st.LogBytes)
		}
		cfg.History.MaxEvents = 10
		b.Reconfigure(cfg)
		send(5)
		check("with a log again", ids[50], "5")
		check("from before it", ids[49], "reset")
		cfg.History.MaxAge = time.Second
		b.Reconfigure(cfg)
		time.Sleep(2 * time.Second)
		check("past the age", ids[50], "reset")
	})
}

func TestIdempotencyWindowChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := logged()
		b := broker.New(cfg)
		defer b.Close()
		m := broker.Message{Audience: broker.Everyone(), Data: "x", IdempotencyKey: "k"}
		first := publish(t, b, m)
		time.Sleep(time.Minute)
		if again := publish(t, b, m); again != first {
			t.Fatalf("within the window the key gives %v, want %v", again, first)
		}
		cfg.IdempotencyWindow = time.Second
		b.Reconfigure(cfg)
		if again := publish(t, b, m); again == first {
			t.Error("past the new window the key still gives the first receipt")
		}
	})
}

// TestChangesUnderLoad has the race detector look.
func TestChangesUnderLoad(t *testing.T) {
	cfg := logged()
	b := broker.New(cfg)
	ended := t.Context()
	var clients []*client
	for i := range 50 {
		clients = append(clients, connect(t, b, broker.Subscription{User: fmt.Sprint(i % 7)}, -1))
	}
	var running sync.WaitGroup
	const events = 400
	for range 2 {
		running.Go(func() {
			for i := range events {
				if _, err := b.Publish(ended, toAll(fmt.Sprint(i))); err != nil {
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
	b.Reconfigure(cfg) // does nothing any more
	for i, c := range clients {
		if got := len(c.events()); got != 2*events {
			t.Errorf("client %d got %d events, want %d", i, got, 2*events)
		}
	}
}
