package broker_test

import (
	"errors"
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
		if err := b.NewStream(broker.Subscription{}).Start(&client{}, nil); !errors.Is(err, broker.ErrSuspended) {
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
		c := connect(t, b, broker.Subscription{}, -1)
		synctest.Wait()
		b.Suspend()
		synctest.Wait()
		if ended, why := c.end(); !ended || why != broker.Suspended {
			t.Errorf("the stream has ended: %t, %s", ended, why)
		}
		if err := b.NewStream(broker.Subscription{}).Start(&client{}, nil); !errors.Is(err, broker.ErrSuspended) {
			t.Errorf("a stream joined: %v", err)
		}
		b.Resume()
		connect(t, b, broker.Subscription{}, -1)
	})
}

func TestAClientThatIsAheadWaitsForTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		b.Resume()
		arrived := make(chan time.Duration, 1)
		await := func(id string) {
			start := time.Now()
			b.Await(t.Context(), id)
			arrived <- time.Since(start)
		}
		go await("abc-2")
		time.Sleep(time.Second)
		apply(t, b, 1, time.Now(), toAll("x"))
		time.Sleep(time.Second)
		apply(t, b, 2, time.Now(), toAll("y"))
		if waited := <-arrived; waited != 2*time.Second {
			t.Errorf("it waited %s, want 2s", waited)
		}
		go await("abc-99")
		if waited := <-arrived; waited != 3*time.Second {
			t.Errorf("for what never comes it waited %s, want 3s", waited)
		}
		go await("other-99")
		if waited := <-arrived; waited != 0 {
			t.Errorf("for another log's it waited %s", waited)
		}
	})
}
