package broker_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// logEntry is an entry in the event log of TestRestoredReplicasAgree.
type logEntry struct {
	entry *broker.Entry
	clear *broker.Clear
}

// applyTo applies the entry and returns what a publisher would get.
func (l logEntry) applyTo(rt *rapid.T, b *broker.Broker) string {
	if l.clear != nil {
		n, err := b.ApplyClear(l.entry.Seq, l.entry.At.UnixNano(), *l.clear)
		return fmt.Sprint("cleared ", n, err)
	}
	receipt, err := b.Apply(rt.Context(), l.entry)
	if full := (*broker.RetainFullError)(nil); errors.As(err, &full) {
		return "full"
	}
	return fmt.Sprint(receipt.ID, err)
}

// TestRestoredReplicasAgree checks with random logs that a replica which restores the
// retained values at any position, and reads the log from there or from earlier, accepts
// the same messages as one that has read everything, and has the same values.
func TestRestoredReplicasAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			first, second := replica(), replica()
			defer first.Close()
			defer second.Close()
			first.Begin("abc", 1)

			at, seq := time.Now(), uint64(0)
			var log []logEntry
			for range rapid.IntRange(1, 60).Draw(rt, "entries") {
				seq += uint64(rapid.IntRange(1, 3).Draw(rt, "gap"))
				at = at.Add(time.Duration(rapid.IntRange(-1, 5).Draw(rt, "seconds")) * time.Second)
				log = append(log, drawEntry(rt, seq, at))
			}
			cut := rapid.IntRange(0, len(log)).Draw(rt, "cut")
			var want []string
			for _, l := range log[:cut] {
				want = append(want, l.applyTo(rt, first))
			}
			state, _ := first.RetainedState()
			for _, l := range log[cut:] {
				want = append(want, l.applyTo(rt, first))
			}

			from := rapid.IntRange(0, cut).Draw(rt, "from")
			epoch, applied := "abc", state.Applied
			if rapid.Bool().Draw(rt, "new epoch") {
				epoch, from = "def", cut // the rest of the log belongs to the new epoch
			}
			second.Begin(epoch, 1)
			if err := second.RestoreRetained(slices.Collect(state.Values()), state.Rejected, applied); err != nil {
				rt.Fatal(err)
			}
			for i, l := range log[from:] {
				if got := strings.Replace(l.applyTo(rt, second), "def-", "abc-", 1); got != want[from+i] && !strings.HasPrefix(want[from+i], "cleared") {
					rt.Fatalf("entry %d: the restored replica returned %q, want %q", from+i, got, want[from+i])
				}
			}
			if epoch != "abc" {
				return
			}
			a, _ := first.RetainedState()
			b, _ := second.RetainedState()
			if x, y := slices.Collect(a.Values()), slices.Collect(b.Values()); !reflect.DeepEqual(x, y) || a.Applied != b.Applied {
				rt.Fatalf("the restored replica has %v, want %v", y, x)
			}
			if x, y := first.Stats(), second.Stats(); x.RetainedBytes != y.RetainedBytes {
				rt.Fatalf("the restored replica's values use %d bytes, want %d", y.RetainedBytes, x.RetainedBytes)
			}
		})
	})
}

func drawEntry(rt *rapid.T, seq uint64, at time.Time) logEntry {
	l := logEntry{entry: &broker.Entry{Seq: seq, At: at, Retain: broker.Retain{MaxEvents: 5, MaxBytes: 5000}}}
	to := rapid.SampledFrom([]broker.Audience{broker.Everyone(), broker.ToUser("alice"), broker.ToTopic("a"), broker.ToTopic("b")}).Draw(rt, "audience")
	if rapid.IntRange(0, 9).Draw(rt, "clear") == 0 {
		l.clear = &broker.Clear{Audience: to}
		return l
	}
	m := &l.entry.Message
	m.Audience, m.Data = to, strings.Repeat("x\n", rapid.IntRange(1, 600).Draw(rt, "size"))
	m.Event = rapid.SampledFrom([]string{"", "price"}).Draw(rt, "event")
	if m.Retain = rapid.Bool().Draw(rt, "retain"); m.Retain {
		m.ConflateKey = rapid.SampledFrom([]string{"", "k", "l"}).Draw(rt, "key")
	}
	if rapid.IntRange(0, 3).Draw(rt, "ttl") == 0 {
		m.TTL = 10 * time.Second
	}
	if name, ok := to.Topic(); ok && rapid.Bool().Draw(rt, "several") {
		m.SetTopics(append(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 2).Draw(rt, "topics"), name))
		for range m.Topics {
			l.entry.TopicsRetainedByPolicy = append(l.entry.TopicsRetainedByPolicy, rapid.IntRange(0, 3).Draw(rt, "policy") == 0)
		}
	}
	if _, ok := to.User(); !ok {
		m.ExcludeUser = rapid.SampledFrom([]string{"", "", "alice"}).Draw(rt, "excluded")
	}
	l.entry.RetainedByPolicy = rapid.IntRange(0, 3).Draw(rt, "policy") == 0
	return l
}

// TestRestoredValues checks that values from an earlier epoch keep their ids and precede
// others.
func TestRestoredValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := replica()
		defer old.Close()
		old.Begin("old", 1)
		limits := broker.Retain{MaxEvents: 10, MaxBytes: 1 << 20}
		for i, m := range []broker.Message{retain(toTopic("t", "a"), "a"), retain(toTopic("t", "b"), "b")} {
			if _, err := old.Apply(t.Context(), &broker.Entry{Seq: uint64(7 + 2*i), At: time.Now(), Retain: limits, Message: m}); err != nil {
				t.Fatal(err)
			}
		}

		b := replica()
		defer b.Close()
		b.Begin("new", 5)
		state, _ := old.RetainedState()
		if err := b.RestoreRetained(slices.Collect(state.Values()), nil, 4); err != nil {
			t.Fatal(err)
		}
		b.Resume()
		entry := broker.Entry{Seq: 5, At: time.Now(), Retain: limits, Message: retain(toTopic("t", "c"), "c")}
		if _, err := b.Apply(t.Context(), &entry); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"t", "*"} {
			c := connect(t, b, broker.Subscription{Topics: []string{topic}}, -1)
			synctest.Wait()
			var ids []string
			for _, e := range c.events() {
				ids = append(ids, e.id)
			}
			if got := strings.Join(ids, " "); !strings.HasSuffix(got, "new-5") || !strings.Contains(got, "old-7") || !strings.Contains(got, "old-9") {
				t.Errorf("%s: got the ids %q", topic, got)
			}
			again := connect(t, b, broker.Subscription{Topics: []string{topic}, LastEventID: "old-9"}, -1)
			synctest.Wait()
			if got := again.blocks(); !strings.HasPrefix(got, "[unknown] ") || !strings.HasSuffix(got, " c mark") {
				t.Errorf("%s: after an id of the old epoch, got %q", topic, got)
			}
		}
	})
}

func TestRestoreRejectsInvalidValues(t *testing.T) {
	valid := broker.RetainedValue{ID: "abc-1", Audience: broker.ToTopic("t"), Event: "topic", Data: "x"}
	later := valid
	later.ID, later.ConflateKey = "abc-2", "k"
	for name, change := range map[string]func(*broker.RetainedValue){
		"audience":      func(v *broker.RetainedValue) { v.Audience = broker.ToTopic("t.*") },
		"no audience":   func(v *broker.RetainedValue) { v.Audience = broker.Audience{} },
		"conflate key":  func(v *broker.RetainedValue) { v.ConflateKey = "\n" },
		"id":            func(v *broker.RetainedValue) { v.ID = "abc" },
		"event":         func(v *broker.RetainedValue) { v.Event = "a\nb" },
		"reserved type": func(v *broker.RetainedValue) { v.Event = "peald.end" },
		"no data":       func(v *broker.RetainedValue) { v.Data = "" },
		"not UTF-8":     func(v *broker.RetainedValue) { v.Data = "\xff" },
		"order":         func(v *broker.RetainedValue) { v.ID = "abc-3" },
		"the same key":  func(v *broker.RetainedValue) { v.ConflateKey = "k" },
		"topics":        func(v *broker.RetainedValue) { v.Topics = []string{"t"} },
		"excluded user": func(v *broker.RetainedValue) { v.ExcludeUser = "\n" },
	} {
		b := replica()
		b.Begin("abc", 1)
		if err := b.RestoreRetained([]broker.RetainedValue{valid, later}, nil, 9); err != nil {
			t.Errorf("valid values were rejected: %v", err)
		}
		v := valid
		change(&v)
		if err := b.RestoreRetained([]broker.RetainedValue{v, later}, nil, 9); err == nil || b.Stats().RetainedEvents != 2 {
			t.Errorf("%s: got %v, and %d values", name, err, b.Stats().RetainedEvents)
		}
		b.Close()
	}
}

// TestRestoredValuesAreSentOnce checks that a stream that starts in the past gets a value
// only once if a replica has restored it and then read its message from the log again, in
// the same epoch or in a later one.
func TestRestoredValuesAreSentOnce(t *testing.T) {
	for _, epoch := range []string{"abc", "def"} {
		synctest.Test(t, func(t *testing.T) {
			entries := []broker.Message{retain(toTopic("t", "1"), ""), retain(toTopic("t", "2"), ""), retain(toTopic("u", "3"), "k"), retain(toAll("4"), "")}
			entries[3].TTL = time.Hour
			fill := func(b *broker.Broker, epoch string, restore func()) {
				b.Begin(epoch, 1)
				restore()
				for i := range entries {
					at := time.Date(2000, 1, 1, 0, 0, i, 0, time.UTC)
					if _, err := b.Apply(t.Context(), &broker.Entry{Seq: uint64(i + 1), At: at, Retain: broker.Retain{MaxEvents: 9, MaxBytes: 1 << 20}, Message: entries[i]}); err != nil {
						t.Fatal(err)
					}
				}
				b.Resume()
			}
			first, second := replica(), replica()
			defer first.Close()
			defer second.Close()
			fill(first, "abc", func() {})
			state, _ := first.RetainedState()
			fill(second, epoch, func() {
				if err := second.RestoreRetained(slices.Collect(state.Values()), nil, state.Applied); err != nil {
					t.Fatal(err)
				}
			})
			for _, topics := range [][]string{{"t", "u"}, {"*"}} {
				for start, want := range map[broker.Start]string{{}: "2 3 4 mark", broker.SinceAll(): "mark 1 2 3 4", broker.Rewind(1): "2 3 mark 4"} {
					c := connect(t, second, broker.Subscription{Topics: topics, Start: start}, -1)
					synctest.Wait()
					if got := c.blocks(); got != want {
						t.Errorf("epoch %s, %q from %+v: got %q, want %q", epoch, topics, start, got, want)
					}
					c.stream.HangUp()
				}
			}
			again, _ := second.RetainedState()
			if left := slices.Collect(again.Values()); len(left) != 3 {
				t.Errorf("%d values are left", len(left))
			}
		})
	}
}

// TestExpiredValuesAreNotCounted checks the counts of a replica, which keeps expired values
// until the next entry of its log.
func TestExpiredValuesAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		limits := broker.Retain{MaxEvents: 10, MaxBytes: 1 << 20}
		short, long := retain(toTopic("t", "short"), "a"), retain(toTopic("t", "long"), "b")
		short.TTL, long.TTL = time.Minute, time.Hour
		for i, m := range []broker.Message{short, long} {
			if _, err := b.Apply(t.Context(), &broker.Entry{Seq: uint64(i + 1), At: time.Now(), Retain: limits, Message: m}); err != nil {
				t.Fatal(err)
			}
		}
		before := b.Stats()
		time.Sleep(2 * time.Minute)
		if after := b.Stats(); before.RetainedEvents != 2 || after.RetainedEvents != 1 || after.RetainedBytes >= before.RetainedBytes || after.RetainedBytes == 0 {
			t.Errorf("%d values with %d bytes, and later %d with %d; want 2 and 1", before.RetainedEvents, before.RetainedBytes, after.RetainedEvents, after.RetainedBytes)
		}
	})
}
