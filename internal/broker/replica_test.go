package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// replica returns a broker that follows an event log.
func replica() *broker.Broker {
	cfg := config()
	cfg.Replica = true
	cfg.History = broker.History{MaxEvents: 100, MaxBytes: 1 << 20}
	cfg.IdempotencyWindow = time.Minute
	return broker.New(cfg)
}

func apply(t *testing.T, b *broker.Broker, seq uint64, at time.Time, m broker.Message) broker.Receipt {
	t.Helper()
	r, err := b.Apply(t.Context(), &broker.Entry{Seq: seq, At: at, Message: m})
	if err != nil {
		t.Fatalf("apply %d: %v", seq, err)
	}
	return r
}

func TestReplicaUsesTheLogsIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		if err := b.NewStream(broker.Subscription{}).Start(&client{}, broker.Opening{}); !errors.Is(err, broker.ErrSuspended) {
			t.Errorf("a stream joined before the log began: %v", err)
		}

		b.Begin("abc", 1024)
		b.Resume()
		c := connect(t, b, broker.Subscription{}, -1)
		now := time.Now()
		for _, seq := range []uint64{1024, 1025, 5000} { // with gaps
			apply(t, b, seq, now, toAll("x"))
		}

		synctest.Wait()
		events := c.events()
		if len(events) != 3 || events[0].id != "abc-1024" || events[2].id != "abc-5000" {
			t.Errorf("got %v", events)
		}

		resumed := connect(t, b, broker.Subscription{LastEventID: "abc-1025"}, -1)
		synctest.Wait()
		if events := resumed.events(); len(events) != 1 || events[0].id != "abc-5000" {
			t.Errorf("resumed, got %v", events)
		}
	})
}

func TestKeysExpireByTheLogsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		m := toAll("x")
		m.IdempotencyKey = "key"
		then := time.Now().Add(-time.Hour) // as if a node reread its log
		first := apply(t, b, 1, then, m)
		time.Sleep(time.Hour)
		if again := apply(t, b, 2, then.Add(59*time.Second), m); again.ID != first.ID {
			t.Errorf("within the window the repetition has id %q, want %q", again.ID, first.ID)
		}
		if later := apply(t, b, 3, then.Add(time.Minute), m); later.ID != "abc-3" {
			t.Errorf("after the window the message has id %q, want a new one", later.ID)
		}
	})
}

func TestSuspendedReplicaClosesItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		b.Resume()
		const streams, over = 2000, 5 * time.Second
		clients := make([]*client, streams)
		for i := range clients {
			clients[i] = connect(t, b, broker.Subscription{}, -1)
		}

		b.Suspend(over)
		if err := b.NewStream(broker.Subscription{}).Start(&client{}, broker.Opening{}); !errors.Is(err, broker.ErrSuspended) {
			t.Errorf("a stream joined: %v", err)
		}

		time.Sleep(over / 2)
		synctest.Wait()
		if left := b.Stats().Total.Connections; left < streams*9/20 || left > streams*11/20 {
			t.Errorf("after half the time, %d of %d streams are open", left, streams)
		}

		time.Sleep(over/2 + 100*time.Millisecond)
		synctest.Wait()
		for _, c := range clients {
			if closed, why := c.closed(); !closed || why != broker.Suspended || !lastBlock.MatchString(c.text()) {
				t.Fatalf("closed %t, reason %s, body %q", closed, why, c.text())
			}
		}

		if s := b.Stats().Total; s.Disconnected["suspended"] != streams || s.Connections != 0 {
			t.Errorf("stats %+v", s)
		}

		b.Resume()
		connect(t, b, broker.Subscription{}, -1)
	})
}

// TestStreamsThatOutliveASuspension resumes a replica before all its streams have
// been closed. The others must stay open, and each client must get every event,
// on its stream or when it resumes.
func TestStreamsThatOutliveASuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		b.Resume()
		const streams, over = 1000, 5 * time.Second
		clients := make([]*client, streams)
		for i := range clients {
			clients[i] = connect(t, b, broker.Subscription{}, -1)
		}

		seq := uint64(0)
		publish := func() {
			seq++
			apply(t, b, seq, time.Now(), toAll(fmt.Sprint(seq)))
		}

		publish()
		b.Suspend(over)
		for range 10 {
			time.Sleep(over / 20)
			publish()
		}

		b.Resume()
		b.Resume() // changes nothing
		publish()
		time.Sleep(2 * over)
		publish()
		synctest.Wait()
		open := 0
		for i, c := range clients {
			closed, _ := c.closed()
			if !closed {
				open++
			} else {
				events := c.events()
				c = connect(t, b, broker.Subscription{LastEventID: events[len(events)-1].id}, -1)
				synctest.Wait()
				if got := append(clients[i].data(), c.data()...); len(got) != int(seq) || got[len(got)-1] != fmt.Sprint(seq) {
					t.Fatalf("client %d got %q on both streams", i, got)
				}
				continue
			}
			if got := c.data(); len(got) != int(seq) || got[len(got)-1] != fmt.Sprint(seq) {
				t.Fatalf("client %d got %q", i, got)
			}
		}

		if open < streams*9/20 || open > streams*11/20 {
			t.Errorf("%d of %d streams are still open", open, streams)
		}
	})
}

// TestAnotherLogClosesAllStreams begins another log. No open stream may get any
// event from that log, even if the stream is being drained or is catching up.
func TestAnotherLogClosesAllStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		b.Resume()
		for seq := range uint64(50) {
			apply(t, b, seq+1, time.Now(), toAll("old"))
		}

		clients := []*client{connect(t, b, broker.Subscription{}, -1), connect(t, b, broker.Subscription{LastEventID: "abc-1"}, 60)}
		for range 500 {
			clients = append(clients, connect(t, b, broker.Subscription{}, -1))
		}

		synctest.Wait()
		b.Suspend(time.Minute)
		time.Sleep(100 * time.Millisecond)
		b.Begin("def", 1)
		apply(t, b, 1, time.Now(), toAll("new"))
		clients[1].drain(1 << 20)
		synctest.Wait()
		for i, c := range clients {
			if closed, _ := c.closed(); !closed || strings.Contains(c.text(), "def-") || strings.Contains(c.text(), "new") {
				t.Errorf("client %d: closed %t, body %q", i, closed, c.text())
			}
		}

		b.Resume()
		again := connect(t, b, broker.Subscription{}, -1)
		time.Sleep(2 * time.Minute)
		if closed, why := again.closed(); closed {
			t.Errorf("a stream that follows the new log was closed, reason %s", why)
		}
	})
}

func TestClientAheadOfTheReplicaWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		b.Resume()
		done := make(chan struct{}, 1)
		await := func(id string, lasts time.Duration, want error) {
			t.Helper()
			start := time.Now()
			if err := b.Await(t.Context(), id); !errors.Is(err, want) {
				t.Errorf("Await(%s) = %v, want %v", id, err, want)
			}
			if waited := time.Since(start); waited != lasts {
				t.Errorf("Await(%s) took %s, want %s", id, waited, lasts)
			}
			done <- struct{}{}
		}

		go await("abc-2", 2*time.Second, nil)
		time.Sleep(time.Second)
		apply(t, b, 1, time.Now(), toAll("x"))
		time.Sleep(time.Second)
		apply(t, b, 2, time.Now(), toAll("y"))
		<-done

		// It is unknown whether the log extends that far.
		go await("abc-99", 3*time.Second, broker.ErrBehind)
		<-done

		// The log extends that far.
		b.Confirm(99, time.Now())
		go await("abc-99", 3*time.Second, broker.ErrBehind)
		<-done

		// The log didn't extend that far, but that was before Await.
		b.Confirm(98, time.Now())
		go await("abc-99", 3*time.Second, broker.ErrBehind)
		<-done

		// The log doesn't extend that far.
		go await("abc-99", 3*time.Second, nil)
		time.Sleep(2 * time.Second)
		b.Confirm(98, time.Now())
		<-done
		go await("other-99", 0, nil)
		<-done
	})
}

// TestPositionBetweenEntries resumes from positions that no entry has. They come from
// replicas that began later.
func TestPositionBetweenEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		b.Resume()
		apply(t, b, 1, time.Now(), toAll("x"))
		waited := make(chan error, 1)
		go func() { waited <- b.Await(t.Context(), "abc-7") }()
		synctest.Wait()
		b.Advance(7)
		if err := <-waited; err != nil {
			t.Errorf("Await: %v", err)
		}

		clients := make(map[string]*client)
		for id, want := range map[string]string{"abc-0": "x", "abc-1": "", "abc-4": "", "abc-7": "", "abc-8": "[unknown]"} {
			clients[id] = connect(t, b, broker.Subscription{LastEventID: id}, -1)
			synctest.Wait()
			if got := clients[id].dataAndResets(); got != want {
				t.Errorf("%s: got %q, want %q", id, got, want)
			}
		}
		apply(t, b, 9, time.Now(), toAll("y"))
		synctest.Wait()
		for id, c := range clients {
			if got := c.dataAndResets(); !strings.HasSuffix(got, "y") {
				t.Errorf("%s: got %q, want y at the end", id, got)
			}
		}
		b.Begin("def", 1)
		b.Resume()
		c := connect(t, b, broker.Subscription{LastEventID: "def-7"}, -1)
		synctest.Wait()
		if got := c.dataAndResets(); got != "[unknown]" {
			t.Errorf("in a new log: got %q, want [unknown]", got)
		}
	})
}

// TestAgesFollowTheLogsClock checks that a replica measures the age of keys and
// events with its log's clock and not with its own.
func TestAgesFollowTheLogsClock(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config()
				cfg.Replica, cfg.IdempotencyWindow = true, time.Minute
				cfg.History = broker.History{MaxEvents: 100, MaxBytes: 1 << 20, MaxAge: 2 * time.Minute}
				b := broker.New(cfg)
				defer b.Close()
				b.Begin("abc", 1)
				b.Resume()
				logTime := time.Now().Add(-ahead) // the replica's clock is ahead of the log's
				b.SetClock(logTime)
				keyed := toAll("one")
				keyed.IdempotencyKey = "key"
				first := apply(t, b, 1, logTime, toAll("zero"))
				apply(t, b, 2, logTime, keyed)
				known := func() uint64 {
					_, verdicts := b.Verdicts([]*broker.Message{&keyed})
					return verdicts[0].Repeats
				}
				resumes := func() bool {
					c := connect(t, b, broker.Subscription{LastEventID: first.ID}, -1)
					synctest.Wait()
					return len(c.data()) == 1 && c.data()[0] == "one"
				}

				time.Sleep(50 * time.Second)
				if known() != 2 || !resumes() {
					t.Errorf("after 50 s the key belongs to event %d, want 2; a client can resume: %t, want true", known(), resumes())
				}
				time.Sleep(20 * time.Second)
				if known() != 0 || !resumes() {
					t.Errorf("after 70 s the key belongs to event %d, want none; a client can resume: %t, want true", known(), resumes())
				}
				time.Sleep(time.Minute)
				if resumes() {
					t.Error("after 130 s a client can resume, want no event older than 2 m")
				}
			})
		})
	}
}
