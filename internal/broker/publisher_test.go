package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

func TestIdempotency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
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
				t.Errorf("one key has the receipts %v and %v", r, receipts[0])
			}
		}

		other := m
		other.Data = "other"
		if _, err := b.Publish(t.Context(), other); !errors.Is(err, broker.ErrKeyUsed) {
			t.Errorf("another message with the key: error %v", err)
		}

		time.Sleep(6 * time.Minute)
		if r := publish(t, b, other); r.ID == receipts[0].ID {
			t.Errorf("after the window the key still returns %v", r)
		}

		synctest.Wait()
		if got := c.data(); !slices.Equal(got, []string{"once", "other"}) {
			t.Errorf("the stream got %q", got)
		}
	})
}

func TestConflation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
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

		publish(t, b, toAll("cut in the middle"))
		synctest.Wait()
		publish(t, b, toAll("has no key"))
		for i := range 100 {
			keyed("a", i)
			keyed("b", i)
		}

		c.drain(-1)
		synctest.Wait()
		got := c.data()
		if len(got) < 4 || !slices.Equal(got[:2], []string{"cut in the middle", "has no key"}) || !slices.Equal(got[len(got)-2:], []string{"a99", "b99"}) || len(got) > 30 {
			t.Errorf("got %q, want the first two and the newest for each key", got)
		}

		if !slices.IsSortedFunc(c.events(), func(x, y received) int { return len(x.id) - len(y.id) }) {
			t.Errorf("out of order: %q", c.events())
		}

		c.drain(0)
		for i := range 100 {
			publish(t, b, toAll(fmt.Sprint("no key ", i)))
			synctest.Wait()
		}

		if closed, why := c.closed(); !closed || why != broker.SlowConsumer {
			t.Errorf("full queue of events without a key: closed %v, reason %v", closed, why)
		}
	})
}

func TestDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		a1 := connect(t, b, broker.Subscription{User: "alice"}, -1)
		a2 := connect(t, b, broker.Subscription{User: "alice"}, -1)
		bob := connect(t, b, broker.Subscription{User: "bob"}, -1)
		if n, err := b.Disconnect("alice", time.Minute); n != 2 || err != nil {
			t.Errorf("disconnected %d streams (%v), want 2", n, err)
		}

		synctest.Wait()
		for _, c := range []*client{a1, a2} {
			if closed, why := c.closed(); !closed || why != broker.Disconnected {
				t.Errorf("closed %v, reason %v", closed, why)
			}
		}

		if closed, _ := bob.closed(); closed {
			t.Error("bob was disconnected as well")
		}

		if !b.Banned("alice") || b.Banned("bob") {
			t.Errorf("banned: alice %v, bob %v", b.Banned("alice"), b.Banned("bob"))
		}

		time.Sleep(time.Minute)
		if b.Banned("alice") {
			t.Error("alice is still banned")
		}

		if n, err := b.Disconnect("nobody", 0); n != 0 || err != nil {
			t.Errorf("disconnected %d streams for an unknown user (%v)", n, err)
		}

		if _, err := b.Disconnect("", 0); err == nil {
			t.Error("an empty user is accepted")
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
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
		<-w.C
		changes, err := w.Take()
		var got []string
		for _, c := range changes {
			got = append(got, fmt.Sprintf("%s %v %v %d", c.User, c.Open, c.Reason, c.Connections))
		}

		want := []string{"alice true hung_up 2", "alice false hung_up 1", "alice false write_failed 0", " true hung_up 1"}
		if !slices.Equal(got, want) {
			t.Errorf("reported %q, want %q", got, want)
		}

		if !errors.Is(err, broker.ErrClosed) {
			t.Errorf("the watch ended with error %v", err)
		}

		w.Close()
		if _, err := b.Watch(); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("watch on a closed broker: %v", err)
		}
	})
}
