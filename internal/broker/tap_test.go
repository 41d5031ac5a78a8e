package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
)

// summary returns the gap and the data of a batch.
func summary(batch broker.TapBatch) string {
	var words []string
	if gap := batch.Gap; gap.Reason != "" {
		words = append(words, fmt.Sprintf("[%s %d]", gap.Reason, gap.Messages))
	}
	for _, m := range batch.Messages {
		words = append(words, m.Data)
	}
	return strings.Join(words, " ")
}

func take(t *testing.T, tap *broker.Tap) broker.TapBatch {
	t.Helper()
	select {
	case <-tap.C:
	case <-time.After(10 * time.Second):
		t.Fatal("the tap has no messages")
	}
	batch, err := tap.Take()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func newTap(t *testing.T, b *broker.Broker, audience broker.Audience, lastID string) *broker.Tap {
	t.Helper()
	tap, err := b.Tap(audience, lastID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	return tap
}

// publishTapped publishes a message that only taps get, and returns its id.
func publishTapped(t *testing.T, b *broker.Broker, to broker.Audience, data string) (id string) {
	t.Helper()
	r, err := b.Publish(t.Context(), broker.Message{Audience: to, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	if r.Recipients != 0 {
		t.Errorf("a tap is counted as a recipient")
	}
	return r.ID
}

func TestTapsObserveTheirAudience(t *testing.T) {
	b := broker.New(config())
	t.Cleanup(b.Close)
	taps := map[string]*broker.Tap{
		"all hers hello her.own paid due": newTap(t, b, broker.Audience{}, ""),
		"all":                             newTap(t, b, broker.Everyone(), ""),
		"hers":                            newTap(t, b, broker.ToUser("alice"), ""),
		"her.own":                         newTap(t, b, broker.ToTopic("alice"), ""),
		"paid due":                        newTap(t, b, broker.ToTopic("orders.*.state"), ""),
	}

	publishTapped(t, b, broker.Everyone(), "all")
	publishTapped(t, b, broker.ToUser("alice"), "hers")
	publishTapped(t, b, broker.ToUser("bob"), "hello")
	publishTapped(t, b, broker.ToTopic("alice"), "her.own")
	publishTapped(t, b, broker.ToTopic("orders.7.state"), "paid")
	last := publishTapped(t, b, broker.ToTopic("orders.8.state"), "due")
	for want, tap := range taps {
		if batch := take(t, tap); summary(batch) != want || batch.Position != last {
			t.Errorf("%q at %s, want %q at %s", summary(batch), batch.Position, want, last)
		}

		select {
		case <-tap.C:
			t.Errorf("the tap has more messages after %q", want)
		default:
		}
	}
}

func TestTapStartsInTheHistory(t *testing.T) {
	cfg := config()
	cfg.History = broker.History{MaxEvents: 5000, MaxBytes: 64 << 20}
	b := broker.New(cfg)
	t.Cleanup(b.Close)
	first := publishTapped(t, b, broker.Everyone(), "0")
	const n = 4500 // more than a tap reads from the history at once
	for i := range n {
		publishTapped(t, b, broker.ToUser("other"), fmt.Sprint(i))
	}

	publishTapped(t, b, broker.ToTopic("news"), "old")
	tap := newTap(t, b, broker.ToTopic("news"), first)
	publishTapped(t, b, broker.ToTopic("news"), "new")
	var got []string
	for len(got) < 2 {
		if words := summary(take(t, tap)); words != "" {
			got = append(got, strings.Fields(words)...)
		}
	}

	publishTapped(t, b, broker.ToTopic("news"), "live")
	if got = append(got, summary(take(t, tap))); strings.Join(got, " ") != "old new live" {
		t.Errorf("got %q", got)
	}

	t.Run("expired", func(t *testing.T) {
		for range 1000 {
			publishTapped(t, b, broker.ToUser("other"), "x")
		}

		if got := summary(take(t, newTap(t, b, broker.ToUser("other"), first))); !strings.HasPrefix(got, "[expired 0] ") {
			t.Errorf("got %.40q, want a gap and the rest", got)
		}

		tap, got := newTap(t, b, broker.ToTopic("news"), first), ""
		for got == "" { // it reads 4096 events at once
			got = summary(take(t, tap))
		}
		if got != "old new live" {
			t.Errorf("got %q, want no gap, since only events for another audience were evicted", got)
		}
	})
}

// TestSlowTap checks that an unread tap doesn't block publishers, keeps a limited
// number of messages, and reports a gap.
func TestSlowTap(t *testing.T) {
	b := broker.New(config())
	t.Cleanup(b.Close)
	tap := newTap(t, b, broker.Everyone(), "")
	const n = 10_000
	for i := range n {
		publishTapped(t, b, broker.Everyone(), fmt.Sprint(i))
	}
	batch := take(t, tap)
	if gap := batch.Gap; gap.Reason != "overflow" || gap.Messages+len(batch.Messages) != n || gap.Messages == 0 {
		t.Errorf("gap %+v and %d messages", gap, len(batch.Messages))
	}
	if last := batch.Messages[len(batch.Messages)-1]; last.Data != fmt.Sprint(n-1) {
		t.Errorf("the last message is %q", last.Data)
	}

	large := strings.Repeat("x", 1<<20)
	for range 10 {
		publishTapped(t, b, broker.Everyone(), large)
	}
	if batch := take(t, tap); len(batch.Messages) > 4 || batch.Gap.Messages+len(batch.Messages) != 10 {
		t.Errorf("gap %+v and %d messages of 1 MiB", batch.Gap, len(batch.Messages))
	}
}

func TestTapOnAClosedBroker(t *testing.T) {
	b := broker.New(config())
	tap := newTap(t, b, broker.Audience{}, "")
	publishTapped(t, b, broker.Everyone(), "last")
	b.Close()
	if got := summary(take(t, tap)); got != "last" {
		t.Errorf("got %q", got)
	}
	<-tap.C
	if _, err := tap.Take(); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("after the last message: %v", err)
	}
	if _, err := b.Tap(broker.Everyone(), ""); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("new tap: %v", err)
	}
}
