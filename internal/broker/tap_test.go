package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
)

// heard are the messages of a batch, in short.
func heard(batch broker.TapBatch) string {
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
		t.Fatal("nothing to take")
	}
	batch, err := tap.Take()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func newTap(t *testing.T, b *broker.Broker, of broker.Audience, lastID string) *broker.Tap {
	t.Helper()
	tap, err := b.Tap(of, lastID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	return tap
}

func say(t *testing.T, b *broker.Broker, to broker.Audience, data string) (id string) {
	t.Helper()
	r, err := b.Publish(t.Context(), broker.Message{Audience: to, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	if r.Recipients != 0 {
		t.Errorf("a tap is counted as recipient")
	}
	return r.ID
}

func TestTapsSeeTheirAudience(t *testing.T) {
	b := broker.New(config())
	t.Cleanup(b.Close)
	taps := map[string]*broker.Tap{
		"all hers hello her.own paid due": newTap(t, b, broker.Audience{}, ""),
		"all":                             newTap(t, b, broker.Everyone(), ""),
		"hers":                            newTap(t, b, broker.ToUser("alice"), ""),
		"her.own":                         newTap(t, b, broker.ToTopic("alice"), ""),
		"paid due":                        newTap(t, b, broker.ToTopic("orders.*.state"), ""),
	}
	say(t, b, broker.Everyone(), "all")
	say(t, b, broker.ToUser("alice"), "hers")
	say(t, b, broker.ToUser("bob"), "hello")
	say(t, b, broker.ToTopic("alice"), "her.own")
	say(t, b, broker.ToTopic("orders.7.state"), "paid")
	last := say(t, b, broker.ToTopic("orders.8.state"), "due")
	for want, tap := range taps {
		if batch := take(t, tap); heard(batch) != want || batch.Position != last {
			t.Errorf("%q at %s, want %q at %s", heard(batch), batch.Position, want, last)
		}
		select {
		case <-tap.C:
			t.Errorf("more to take after %q", want)
		default:
		}
	}
}

func TestTapBeginsInTheLog(t *testing.T) {
	cfg := config()
	cfg.History = broker.History{MaxEvents: 5000, MaxBytes: 64 << 20}
	b := broker.New(cfg)
	t.Cleanup(b.Close)
	first := say(t, b, broker.Everyone(), "0")
	const n = 4500 // more than one look into the log takes
	for i := range n {
		say(t, b, broker.ToUser("other"), fmt.Sprint(i))
	}
	say(t, b, broker.ToTopic("news"), "old")
	tap := newTap(t, b, broker.ToTopic("news"), first)
	say(t, b, broker.ToTopic("news"), "new")
	var got []string
	for len(got) < 2 {
		if words := heard(take(t, tap)); words != "" {
			got = append(got, strings.Fields(words)...)
		}
	}
	say(t, b, broker.ToTopic("news"), "live")
	if got = append(got, heard(take(t, tap))); strings.Join(got, " ") != "old new live" {
		t.Errorf("heard %q", got)
	}

	t.Run("that has let go of some", func(t *testing.T) {
		for range 1000 {
			say(t, b, broker.ToUser("other"), "x")
		}
		if got := heard(take(t, newTap(t, b, broker.ToTopic("news"), first))); got != "[expired 0] old new live" {
			t.Errorf("heard %q of a log that has let go of what came first", got)
		}
	})
}

// A tap that nobody reads holds nobody up, keeps little, and says what it
// missed.
func TestTapThatIsReadTooSlowly(t *testing.T) {
	b := broker.New(config())
	t.Cleanup(b.Close)
	tap := newTap(t, b, broker.Everyone(), "")
	const n = 10_000
	for i := range n {
		say(t, b, broker.Everyone(), fmt.Sprint(i))
	}
	batch := take(t, tap)
	if gap := batch.Gap; gap.Reason != "overflow" || gap.Messages+len(batch.Messages) != n || gap.Messages == 0 {
		t.Errorf("missed %+v, heard %d", gap, len(batch.Messages))
	}
	if last := batch.Messages[len(batch.Messages)-1]; last.Data != fmt.Sprint(n-1) {
		t.Errorf("the last it heard is %q", last.Data)
	}

	large := strings.Repeat("x", 1<<20)
	for range 10 {
		say(t, b, broker.Everyone(), large)
	}
	if batch := take(t, tap); len(batch.Messages) > 4 || batch.Gap.Messages+len(batch.Messages) != 10 {
		t.Errorf("missed %+v, kept %d MiB", batch.Gap, len(batch.Messages))
	}
}

func TestTapOfAClosedBroker(t *testing.T) {
	b := broker.New(config())
	tap := newTap(t, b, broker.Audience{}, "")
	say(t, b, broker.Everyone(), "last")
	b.Close()
	if got := heard(take(t, tap)); got != "last" {
		t.Errorf("heard %q", got)
	}
	<-tap.C
	if _, err := tap.Take(); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("the end is %v", err)
	}
	if _, err := b.Tap(broker.Everyone(), ""); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("a new tap: %v", err)
	}
}
