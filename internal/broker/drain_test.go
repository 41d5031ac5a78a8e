package broker_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// lastBlock matches the end of a drained stream.
var lastBlock = regexp.MustCompile(`\n\nretry: (\d+)\n\n$`)

// startDrain starts a drain and returns a channel that gets its error.
func startDrain(ctx context.Context, b *broker.Broker, over time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() { done <- b.Drain(ctx, over) }()
	return done
}

func TestDrainIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		const streams, over, parts = 10_000, 5 * time.Second, 10
		clients := make([]*client, streams)
		for i := range clients {
			clients[i] = connect(t, b, broker.Subscription{User: fmt.Sprint("user", i%3000)}, -1)
		}

		begun := time.Now()
		done := startDrain(t.Context(), b, over)
		left := streams
		for i := range parts {
			time.Sleep(over / parts)
			synctest.Wait()
			now := b.Stats().Total.Connections
			if closed := left - now; closed < streams/parts*9/10 || closed > streams/parts*11/10 {
				t.Errorf("in part %d of %d, %d of %d streams were closed", i, parts, closed, streams)
			}
			left = now
		}

		if err := <-done; err != nil || time.Since(begun) > over+100*time.Millisecond {
			t.Errorf("the drain took %s and returned %v", time.Since(begun), err)
		}

		waits := make(map[string]int)
		for i, c := range clients {
			if closed, why := c.closed(); !closed || why != broker.Drained {
				t.Fatalf("stream %d: closed %t, reason %v", i, closed, why)
			}
			last := lastBlock.FindStringSubmatch(c.text())
			if last == nil {
				t.Fatalf("stream %d ends with %q", i, c.text())
			}
			waits[last[1]]++
		}

		for wait, n := range waits {
			if len(wait) != 4 || wait < "2250" || wait > "3750" || n > 40 {
				t.Errorf("%d streams have a reconnection time of %s ms", n, wait)
			}
		}

		// The broker still accepts streams.
		again := connect(t, b, broker.Subscription{User: "user1"}, -1)
		publish(t, b, toUser("user1", "welcome"))
		synctest.Wait()
		if got := again.data(); !slices.Equal(got, []string{"welcome"}) {
			t.Errorf("a stream opened after the drain got %q", got)
		}

		if got := b.Stats().Total; got.Disconnected["drained"] != streams || got.Connections != 1 || got.QueuedBytes != 0 {
			t.Errorf("stats %+v", got)
		}
	})
}

func TestDrainOfFewStreams(t *testing.T) {
	for streams, most := range map[int]time.Duration{0: 0, 1: 30 * time.Millisecond, 100: 600 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			b := broker.New(config())
			defer b.Close()
			for range streams {
				connect(t, b, broker.Subscription{}, -1)
			}
			begun := time.Now()
			if err := b.Drain(t.Context(), time.Hour); err != nil || time.Since(begun) > most {
				t.Errorf("a drain of %d streams took %s and returned %v", streams, time.Since(begun), err)
			}
		})
	}
}

// TestDrainLosesNothing checks that each event reaches exactly as many streams as
// its receipt counts, even during a drain.
func TestDrainLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		const streams = 40
		clients := make([]*client, streams)
		for i := range clients {
			sub := broker.Subscription{User: fmt.Sprint("user", i%7), Topics: []string{"news", "orders.*"}[i%2 : i%2+1]}
			clients[i] = connect(t, b, sub, -1)
		}

		done := startDrain(t.Context(), b, 2*time.Second)
		recipients := make(map[string]int)
		send := func(m broker.Message) { recipients[m.Data] = publish(t, b, m).Recipients }
		for i := 0; b.Stats().Total.Connections > 0; i++ {
			for range 600 { // more than a shard takes out of its mailbox at once
				send(toAll(fmt.Sprint("all ", len(recipients))))
			}
			send(toUser("user3", fmt.Sprint("user3 ", i)))
			send(broker.Message{Audience: broker.ToTopic("news"), Data: fmt.Sprint("news ", i)})
			send(broker.Message{Audience: broker.ToTopic("orders.new"), Data: fmt.Sprint("order ", i)})
			time.Sleep(40 * time.Millisecond)
		}

		if err := <-done; err != nil {
			t.Error(err)
		}

		for _, c := range clients {
			for _, data := range c.data() {
				recipients[data]--
			}
			if !lastBlock.MatchString(c.text()) {
				t.Errorf("a stream ends with %q", c.text()[max(0, len(c.text())-100):])
			}
		}

		for data, missed := range recipients {
			if missed != 0 {
				t.Errorf("%q reached %d streams fewer than its receipt counts", data, missed)
			}
		}

		if dropped := b.Stats().Total.Dropped; len(dropped) > 0 {
			t.Errorf("dropped events: %v", dropped)
		}
	})
}

func TestDrainOfSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		stuck := connect(t, b, broker.Subscription{}, 30)
		slow := connect(t, b, broker.Subscription{}, 30)
		for i := range 10 {
			publish(t, b, toAll(fmt.Sprint(i)))
		}

		synctest.Wait()
		begun := time.Now()
		done := startDrain(t.Context(), b, time.Minute)
		for closed := false; !closed; closed, _ = slow.closed() {
			time.Sleep(time.Second)
			slow.drain(50)
			synctest.Wait()
		}

		if got := slow.data(); len(got) != 10 || !lastBlock.MatchString(slow.text()) {
			t.Errorf("the slow client got %q; its body is %q", got, slow.text())
		}

		if err := <-done; err != nil || time.Since(begun) > 12*time.Second {
			t.Errorf("the drain took %s and returned %v", time.Since(begun), err)
		}

		if closed, why := stuck.closed(); !closed || why != broker.WriteTimeout {
			t.Errorf("stuck client: closed %t, reason %v", closed, why)
		}

		if s := b.Stats().Total; s.Disconnected["drained"] != 2 || s.Dropped["drained"] == 0 || s.QueuedBytes != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestDrainWhileReplaying checks that a stream that is catching up gets all missed
// events before it is closed.
func TestDrainWhileReplaying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.History = broker.History{MaxEvents: 5000, MaxBytes: 64 << 20, MaxAge: time.Hour}
		b := broker.New(cfg)
		defer b.Close()
		first := publish(t, b, toAll("0"))
		for i := range 2000 {
			publish(t, b, toAll(fmt.Sprint(i+1)))
		}
		c := connect(t, b, broker.Subscription{LastEventID: first.ID}, 1000)
		synctest.Wait()
		done := startDrain(t.Context(), b, time.Minute)
		time.Sleep(time.Second)
		c.drain(-1)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := c.data(); len(got) != 2000 || got[1999] != "2000" || !lastBlock.MatchString(c.text()) {
			t.Errorf("the stream got %d of 2000 events and ends with %q", len(got), c.text()[max(0, len(c.text())-60):])
		}
	})
}

func TestCanceledDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		for range 4000 {
			connect(t, b, broker.Subscription{}, -1)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := b.Drain(ctx, 10*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the drain returned %v", err)
		}
		time.Sleep(time.Minute)
		if n := publish(t, b, toAll("x")).Recipients; n < 1900 || n > 2100 {
			t.Errorf("%d streams are still open, want half of 4000", n)
		}
		if err := b.Drain(t.Context(), time.Second); err != nil {
			t.Errorf("the next drain returned %v", err)
		}
	})
}

func TestConcurrentDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		for range 4000 {
			connect(t, b, broker.Subscription{}, -1)
		}
		slow := startDrain(t.Context(), b, time.Hour)
		time.Sleep(time.Second)
		begun := time.Now()
		if err := b.Drain(t.Context(), time.Second); err != nil || time.Since(begun) > 1100*time.Millisecond {
			t.Errorf("the faster drain took %s and returned %v", time.Since(begun), err)
		}
		if err := <-slow; err != nil || time.Since(begun) > 1100*time.Millisecond {
			t.Errorf("the slower drain took %s and returned %v", time.Since(begun), err)
		}
	})
}

func TestCloseDuringDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		var clients []*client
		for range 4000 {
			clients = append(clients, connect(t, b, broker.Subscription{}, -1))
		}

		done := startDrain(t.Context(), b, 10*time.Second)
		time.Sleep(5 * time.Second)
		b.Close()
		if err := <-done; !errors.Is(err, broker.ErrClosed) {
			t.Errorf("the drain returned %v", err)
		}

		if err := b.Drain(t.Context(), time.Second); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("draining a closed broker returned %v", err)
		}

		for _, c := range clients {
			if closed, _ := c.closed(); !closed || !lastBlock.MatchString(c.text()) {
				t.Fatalf("a stream ends with %q", c.text())
			}
		}

		if s := b.Stats().Total.Disconnected; s["drained"] < 1900 || s["shutdown"] < 1900 || s["drained"]+s["shutdown"] != 4000 {
			t.Errorf("close reasons %v", s)
		}
	})
}

func TestWatchReportsADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		for range 3 {
			connect(t, b, broker.Subscription{User: "alice"}, -1)
		}
		w, err := b.Watch()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := b.Drain(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
		changes, err := w.Take()
		if err != nil {
			t.Fatal(err)
		}
		var reported []string
		for _, c := range changes {
			reported = append(reported, fmt.Sprint(c.User, " ", c.Open, " ", c.Reason, " ", c.Connections))
		}
		if want := "alice false drained 2,alice false drained 1,alice false drained 0"; strings.Join(reported, ",") != want {
			t.Errorf("reported %q, want %s", reported, want)
		}
	})
}
