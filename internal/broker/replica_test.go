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

// replica is a broker that follows a log, whose clock is its own.
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

func TestAReplicaGivesOutTheLogsIDs(t *testing.T) {
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

func TestKeysAreForgottenByTheLogsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		m := toAll("x")
		m.IdempotencyKey = "key"
		then := time.Now().Add(-time.Hour) // as when a node reads its log anew
		first := apply(t, b, 1, then, m)
		time.Sleep(time.Hour)
		if again := apply(t, b, 2, then.Add(59*time.Second), m); again.ID != first.ID {
			t.Errorf("within the window the repetition is %q, want %q", again.ID, first.ID)
		}
		if later := apply(t, b, 3, then.Add(time.Minute), m); later.ID != "abc-3" {
			t.Errorf("after the window the message is %q, want a new one", later.ID)
		}
	})
}

func TestASuspendedReplicaEndsItsStreamsAndTakesNone(t *testing.T) {
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
			t.Errorf("after half of the time %d streams of %d are left", left, streams)
		}
		time.Sleep(over/2 + 100*time.Millisecond)
		synctest.Wait()
		for _, c := range clients {
			if ended, why := c.end(); !ended || why != broker.Suspended || !farewell.MatchString(c.text()) {
				t.Fatalf("a stream has ended: %t, %s, with %q", ended, why, c.text())
			}
		}
		if s := b.Stats().Total; s.Disconnected["suspended"] != streams || s.Connections != 0 {
			t.Errorf("stats %+v", s)
		}
		b.Resume()
		connect(t, b, broker.Subscription{}, -1)
	})
}

// A replica that is back before all its streams have ended goes on with those
// that are left: each client has every event, on its stream or when it resumes.
func TestStreamsThatASuspensionHasLeftGoOn(t *testing.T) {
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
		left := 0
		for i, c := range clients {
			ended, _ := c.end()
			if !ended {
				left++
			} else {
				events := c.events()
				c = connect(t, b, broker.Subscription{LastEventID: events[len(events)-1].id}, -1)
				synctest.Wait()
				if got := append(clients[i].data(), c.data()...); len(got) != int(seq) || got[len(got)-1] != fmt.Sprint(seq) {
					t.Fatalf("client %d got %q before and behind its end", i, got)
				}
				continue
			}
			if got := c.data(); len(got) != int(seq) || got[len(got)-1] != fmt.Sprint(seq) {
				t.Fatalf("client %d got %q", i, got)
			}
		}
		if left < streams*9/20 || left > streams*11/20 {
			t.Errorf("%d streams of %d go on", left, streams)
		}
	})
}

// Another log begins: nobody gets anything of it on a stream that was open, not
// even one that a suspension has yet to end, or that is still at what it missed.
func TestAnotherLogCutsAllStreams(t *testing.T) {
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
			if ended, _ := c.end(); !ended || strings.Contains(c.text(), "def-") || strings.Contains(c.text(), "new") {
				t.Errorf("client %d: ended %t, with %q", i, ended, c.text())
			}
		}
		b.Resume()
		again := connect(t, b, broker.Subscription{}, -1)
		time.Sleep(2 * time.Minute)
		if ended, why := again.end(); ended {
			t.Errorf("a stream of the new log was ended: %s", why)
		}
	})
}

func TestAClientThatIsAheadWaitsForTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		b.Resume()
		arrived := make(chan error, 1)
		await := func(id string, lasts time.Duration, want error) {
			t.Helper()
			start := time.Now()
			if err := b.Await(t.Context(), id); !errors.Is(err, want) {
				t.Errorf("for %s it gets %v, want %v", id, err, want)
			}
			if waited := time.Since(start); waited != lasts {
				t.Errorf("for %s it waited %s, want %s", id, waited, lasts)
			}
			arrived <- nil
		}
		go await("abc-2", 2*time.Second, nil)
		time.Sleep(time.Second)
		apply(t, b, 1, time.Now(), toAll("x"))
		time.Sleep(time.Second)
		apply(t, b, 2, time.Now(), toAll("y"))
		<-arrived

		// Nobody knows whether the log goes so far.
		go await("abc-99", 3*time.Second, broker.ErrBehind)
		<-arrived
		// It does.
		b.Confirm(99, time.Now())
		go await("abc-99", 3*time.Second, broker.ErrBehind)
		<-arrived
		// It did not, when the client had yet to come.
		b.Confirm(98, time.Now())
		go await("abc-99", 3*time.Second, broker.ErrBehind)
		<-arrived
		// It does not.
		go await("abc-99", 3*time.Second, nil)
		time.Sleep(2 * time.Second)
		b.Confirm(98, time.Now())
		<-arrived
		go await("other-99", 0, nil)
		<-arrived
	})
}

// A replica judges the ages of keys and events by the clock of its log, whatever
// its own says.
func TestAReplicaGoesByTheClockOfItsLog(t *testing.T) {
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
				logs := time.Now().Add(-ahead) // the replica's own is ahead of it
				b.SetClock(logs)
				keyed := toAll("one")
				keyed.IdempotencyKey = "key"
				first := apply(t, b, 1, logs, toAll("zero"))
				apply(t, b, 2, logs, keyed)
				judged := func() uint64 {
					_, verdicts := b.Verdicts([]*broker.Message{&keyed})
					return verdicts[0].Repeats
				}
				resumes := func() bool {
					c := connect(t, b, broker.Subscription{LastEventID: first.ID}, -1)
					synctest.Wait()
					return len(c.data()) == 1 && c.data()[0] == "one"
				}

				time.Sleep(50 * time.Second)
				if judged() != 2 || !resumes() {
					t.Errorf("after 50 s the key is of event %d, want 2, and a client resumes: %t", judged(), resumes())
				}
				time.Sleep(20 * time.Second)
				if judged() != 0 || !resumes() {
					t.Errorf("after 70 s the key is of event %d, want none, and a client resumes: %t", judged(), resumes())
				}
				time.Sleep(time.Minute)
				if resumes() {
					t.Error("after 130 s a client resumes, want no event older than 2 m")
				}
			})
		})
	}
}
