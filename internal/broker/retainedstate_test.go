package broker_test

import (
	"errors"
	"fmt"
	"reflect"
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
			state := first.RetainedState()
			for _, l := range log[cut:] {
				want = append(want, l.applyTo(rt, first))
			}

			from := rapid.IntRange(0, cut).Draw(rt, "from")
			epoch, applied := "abc", state.Applied
			if rapid.Bool().Draw(rt, "new epoch") {
				epoch, from = "def", cut // the rest of the log belongs to the new epoch
			}
			second.Begin(epoch, 1)
			if err := second.RestoreRetained(state, applied); err != nil {
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
			a, b := first.RetainedState(), second.RetainedState()
			if !reflect.DeepEqual(a.Values, b.Values) || a.Applied != b.Applied {
				rt.Fatalf("the restored replica has %v, want %v", b, a)
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
		if err := b.RestoreRetained(old.RetainedState(), 4); err != nil {
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
	block := func(id string) []byte { return []byte("id: " + id + "\nevent: topic\ndata: x\n\n") }
	valid := broker.RetainedValue{ID: "abc-1", Audience: broker.ToTopic("t"), Block: block("abc-1")}
	for name, change := range map[string]func(*broker.RetainedValue){
		"audience":       func(v *broker.RetainedValue) { v.Audience = broker.ToTopic("t.*") },
		"no audience":    func(v *broker.RetainedValue) { v.Audience = broker.Audience{} },
		"conflate key":   func(v *broker.RetainedValue) { v.ConflateKey = "\n" },
		"id":             func(v *broker.RetainedValue) { v.ID, v.Block = "abc", block("abc") },
		"another id":     func(v *broker.RetainedValue) { v.ID = "abc-2" },
		"no block":       func(v *broker.RetainedValue) { v.Block = nil },
		"two blocks":     func(v *broker.RetainedValue) { v.Block = append(v.Block, "event: x\ndata: y\n\n"...) },
		"half a block":   func(v *broker.RetainedValue) { v.Block = v.Block[:len(v.Block)-1] },
		"a comment":      func(v *broker.RetainedValue) { v.Block = append([]byte(":\n"), v.Block...) },
		"other encoding": func(v *broker.RetainedValue) { v.Block = []byte("id: abc-1\nevent: topic\ndata:x\n\n") },
	} {
		b := replica()
		b.Begin("abc", 1)
		state := broker.RetainedState{Epoch: "abc", Applied: 9, Values: []broker.RetainedValue{valid}}
		if err := b.RestoreRetained(state, 9); err != nil {
			t.Errorf("a valid value was rejected: %v", err)
		}
		v := valid
		v.Block = block("abc-1")
		change(&v)
		state.Values = []broker.RetainedValue{v}
		if err := b.RestoreRetained(state, 9); err == nil || b.Stats().RetainedEvents != 1 {
			t.Errorf("%s: got %v, and %d values", name, err, b.Stats().RetainedEvents)
		}
		state.Values = []broker.RetainedValue{valid, valid}
		if err := b.RestoreRetained(state, 9); err == nil {
			t.Error("a value was restored twice")
		}
		b.Close()
	}
}

// FuzzRestore checks that no block makes a stream get anything but one event.
func FuzzRestore(f *testing.F) {
	f.Add([]byte("id: abc-1\nevent: topic\ndata: x\n\n"))
	f.Add([]byte("id: abc-1\nevent: topic\ndata: x\ndata: y\n\n"))
	f.Add([]byte("id: abc-1\ndata: x\r\n\n"))
	f.Fuzz(func(t *testing.T, block []byte) {
		b := replica()
		defer b.Close()
		b.Begin("abc", 1)
		state := broker.RetainedState{Values: []broker.RetainedValue{{ID: "abc-1", Audience: broker.Everyone(), Block: block}}}
		if err := b.RestoreRetained(state, 1); err != nil {
			return
		}
		text := string(block)
		if !strings.HasSuffix(text, "\n\n") || strings.Count(text, "\n\n") != 1 || strings.Contains(text, "\r") || strings.Count(text, "id: ") > strings.Count(text, "data: ")+1 {
			t.Errorf("accepted %q", text)
		}
	})
}
