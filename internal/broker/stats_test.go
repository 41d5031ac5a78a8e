package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// within returns the number of observations above one bound and up to another,
// in seconds.
func within(h broker.Histogram, above, upTo float64) int64 { return h.AtMost(upTo) - h.AtMost(above) }

func TestLatencyExcludesReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		b := broker.New(cfg)
		defer b.Close()
		fast := connect(t, b, broker.Subscription{User: "alice"}, -1)
		slow := connect(t, b, broker.Subscription{User: "bob"}, -1)
		synctest.Wait()
		slow.drain(0)
		for range 3 {
			publish(t, b, toAll("immediately and after 7 s"))
		}

		synctest.Wait()
		h := b.Latency()
		if h.Count() != 3 || h.AtMost(0.0001) != 3 {
			t.Errorf("%d events were measured, %d within 0.1 ms; want all 3", h.Count(), h.AtMost(0.0001))
		}

		time.Sleep(7 * time.Second)
		slow.drain(-1)
		synctest.Wait()
		if h = b.Latency(); h.Count() != 6 || within(h, 5, 10) != 3 || h.Sum < 21 || h.Sum > 21.001 {
			t.Errorf("%d events were measured, %d of them at 5 to 10 s, with a sum of %v s; want 6, 3 and 21 s", h.Count(), within(h, 5, 10), h.Sum)
		}

		// Replayed events and heartbeats aren't measured.
		resumed := connect(t, b, broker.Subscription{LastEventID: fast.lastID()}, -1)
		synctest.Wait()
		publish(t, b, toAll("live"))
		synctest.Wait()
		resumed.stream.HangUp()
		publish(t, b, toAll("missed"))
		time.Sleep(time.Minute)
		again := connect(t, b, broker.Subscription{LastEventID: resumed.lastID()}, -1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := again.data(); len(got) != 1 {
			t.Fatalf("the resumed stream got %q, want the missed event", got)
		}

		publish(t, b, toAll("live again"))
		synctest.Wait()
		if h = b.Latency(); h.Count() != 6+3+2+3 || within(h, 0.0001, 600) != 3 {
			t.Errorf("%d events were measured, %d above 0.1 ms; want 14 and 3", h.Count(), within(h, 0.0001, 600))
		}

		if got := b.Stats().Total.Delivered; got != h.Count()+1 {
			t.Errorf("%d events were delivered, want one more than were measured, the replayed one", got)
		}
	})
}

// TestLatencyOfABurst writes more events in one turn than a shard records.
func TestLatencyOfABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.Shards = 1
		b := broker.New(cfg)
		defer b.Close()
		const streams, events = 20, 400
		var slow []*client
		for i := range streams {
			slow = append(slow, connect(t, b, broker.Subscription{User: string(rune('a' + i))}, -1))
		}

		synctest.Wait()
		for _, c := range slow {
			c.drain(0)
		}

		for i := range events {
			for u := range streams { // so that no two streams get the same event
				publish(t, b, toUser(string(rune('a'+u)), "x"))
			}
			if i%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}

		time.Sleep(time.Second)
		for _, c := range slow {
			c.drain(-1)
		}

		synctest.Wait()
		h := b.Latency()
		if h.Count() != streams*events || within(h, 0.5, 2.5) != streams*events {
			t.Errorf("%d events were measured, %d of them at about 1 s; want %d", h.Count(), within(h, 0.5, 2.5), streams*events)
		}
	})
}

func TestReplaysAreCountedByOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History.MaxEvents = 1000
		b := broker.New(cfg)
		defer b.Close()
		first := publish(t, b, toAll("first"))
		for range 600 {
			publish(t, b, toAll("x"))
		}

		last := publish(t, b, toAll("last"))
		expect := func(what string, replayed, ended, expired, most int64) {
			t.Helper()
			synctest.Wait()
			r, sizes := b.Stats().Resumes, b.Replays()
			if r.Replayed != replayed || r.Ended != ended || r.Resets[broker.ResetExpired] != expired {
				t.Errorf("%s: resumes %+v, want %d replayed, %d ended, %d expired", what, r, replayed, ended, expired)
			}
			if n := within(sizes, 500, 1000); n != most || sizes.Count() != replayed+ended+expired {
				t.Errorf("%s: %d replays, %d of them above 500 events; want %d and %d", what, sizes.Count(), n, replayed+ended+expired, most)
			}
		}

		connect(t, b, broker.Subscription{LastEventID: last.ID}, -1)
		expect("nothing missed", 1, 0, 0, 0)
		connect(t, b, broker.Subscription{LastEventID: first.ID}, -1)
		expect("601 missed", 2, 0, 0, 1)
		quitter := connect(t, b, broker.Subscription{LastEventID: first.ID}, 0)
		expect("a replay in progress", 2, 0, 0, 1)
		quitter.stream.HangUp()
		expect("a client that hung up", 2, 1, 0, 1)
		late := connect(t, b, broker.Subscription{LastEventID: first.ID}, 0)
		synctest.Wait()
		for range 1000 {
			publish(t, b, toAll("y"))
		}

		late.drain(-1)
		expect("events that expired during the replay", 2, 1, 1, 1)
	})
}

// stalled is a sink that blocks its shard in every Write until it is released.
type stalled struct{ blocked, release chan struct{} }

func (s stalled) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	s.blocked <- struct{}{}
	<-s.release
	return n, nil
}

func (stalled) Close(broker.Reason) {}

func TestLagIsTheAgeOfTheOldestWaitingEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Shards = 2
		b := broker.New(cfg)
		defer b.Close()
		sink := stalled{make(chan struct{}), make(chan struct{})}
		if err := b.NewStream(broker.Subscription{User: "alice"}).Start(sink, broker.Opening{}); err != nil {
			t.Fatal(err)
		}

		<-sink.blocked
		publish(t, b, toAll("one"))
		time.Sleep(2 * time.Second)
		publish(t, b, toAll("two"))
		time.Sleep(time.Second)
		st := b.Stats()
		if st.Total.WaitingEvents != 2 || st.Total.Lag != 3*time.Second {
			t.Errorf("%d events wait, the oldest for %v; want 2 and 3 s", st.Total.WaitingEvents, st.Total.Lag)
		}

		for _, row := range st.Shards {
			if (row.Lag != 0) != (row.Connections > 0) {
				t.Errorf("shard %d has %d streams and lags by %v", row.Shard, row.Connections, row.Lag)
			}
		}

		sink.release <- struct{}{} // the first block
		<-sink.blocked             // both events
		if st = b.Stats(); st.Total.WaitingEvents != 0 || st.Total.Lag != 0 {
			t.Errorf("%d events wait, the oldest for %v; want none", st.Total.WaitingEvents, st.Total.Lag)
		}

		sink.release <- struct{}{}

		// These are more than a shard takes at once. The rest wait in the part of
		// the mailbox that the shard is reading.
		for range 1200 {
			publish(t, b, toUser("alice", "x"))
		}

		<-sink.blocked
		for range 1200 {
			publish(t, b, toUser("alice", "x"))
		}

		sink.release <- struct{}{}
		<-sink.blocked
		time.Sleep(time.Second)
		if st = b.Stats(); st.Total.WaitingEvents < 1000 || st.Total.Lag != time.Second {
			t.Errorf("%d events wait, the oldest for %v; want more than 1000 and 1 s", st.Total.WaitingEvents, st.Total.Lag)
		}

		go func() {
			for range sink.blocked {
				sink.release <- struct{}{}
			}
		}()

		sink.release <- struct{}{}
		synctest.Wait()
		if st = b.Stats(); st.Total.WaitingEvents != 0 || st.Total.Lag != 0 || st.Total.Delivered != 2402 {
			t.Errorf("%d events wait, the oldest for %v, and %d were delivered; want none waiting and 2402 delivered", st.Total.WaitingEvents, st.Total.Lag, st.Total.Delivered)
		}

		b.Close()
		close(sink.blocked)
	})
}

func TestPublishedByAudience(t *testing.T) {
	b := broker.New(withHistory())
	defer b.Close()
	if s := b.Stats(); !s.LogSince.IsZero() {
		t.Errorf("an empty history starts at %v", s.LogSince)
	}

	start := time.Now()
	for range 3 {
		publish(t, b, toTopic("prices", "x"))
	}

	publish(t, b, toUser("alice", "x"))
	publish(t, b, toUser("alice", "x"))
	m := toAll("x")
	m.IdempotencyKey = "once"
	publish(t, b, m)
	publish(t, b, m)
	connect(t, b, broker.Subscription{Topics: []string{"a", "b.*"}}, -1)
	connect(t, b, broker.Subscription{Topics: []string{"a"}}, -1)
	s := b.Stats()
	if want := (broker.ByAudience{Broadcast: 1, User: 2, Topic: 3}); s.ByAudience != want || s.Published != 6 || s.Topics != 2 {
		t.Errorf("published %+v, %d in total, %d topics; want %+v, 6 and 2", s.ByAudience, s.Published, s.Topics, want)
	}

	if s.LogSince.Before(start) || s.LogSince.After(time.Now()) || s.LogEvents != 6 {
		t.Errorf("the history has %d events since %v", s.LogEvents, s.LogSince)
	}
}

// TestLatencyBounds checks that the bounds include all round ones, and that no
// step between two bounds is larger than that of a native histogram.
func TestLatencyBounds(t *testing.T) {
	b := broker.New(config())
	defer b.Close()
	h := b.Latency()
	at := make(map[float64]bool)
	for i, bound := range h.Bounds {
		at[bound] = true
		if i > 0 && (bound <= h.Bounds[i-1] || bound > 1.0906*h.Bounds[i-1]) {
			t.Errorf("%v is followed by %v", h.Bounds[i-1], bound)
		}
	}
	for _, bound := range broker.LatencyBuckets() {
		if !at[bound] {
			t.Errorf("%v is not a bound", bound)
		}
	}
}

func TestCompressedStreamsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		expect := func(want int) {
			t.Helper()
			synctest.Wait()
			if got := b.Stats().Total.Compressed; got != want {
				t.Errorf("%d streams are compressed, want %d", got, want)
			}
		}

		for _, form := range forms() {
			connectAs(t, b, broker.Subscription{}, -1, form)
		}
		expect(2)
		zipped := connectAs(t, b, broker.Subscription{}, -1, broker.Opening{Gzip: true})
		expect(3)
		zipped.stream.HangUp()
		expect(2)
	})
}
