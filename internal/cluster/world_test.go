package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// world is the model of a cluster: its messages and clients since a moment at which
// all nodes had the same events.
type world struct {
	t       *testing.T
	number  int // of the world, to make its keys unique
	members []*member
	taps    []*broker.Tap
	logs    [][]broker.Tapped // the events from each node
	at      []string          // the position of each tap
	sent    []*submitted
	readers []*reader
	began   time.Time
	cleared map[string]int // by topic, the number of messages before its values were cleared
}

// submitted is a message in flight, or its result.
type submitted struct {
	broker.Message

	node    int
	wait    func(context.Context) (broker.Receipt, error)
	receipt broker.Receipt
	err     error
	unsure  bool // whether its node was restarted before the acknowledgment
}

// reader is a client of a world.
type reader struct {
	follower

	before int // the number of messages that were submitted before it connected
}

func newWorld(t *testing.T, rt *rapid.T, members []*member, number int) *world {
	t.Helper()
	w := &world{t: t, number: number, members: members, logs: make([][]broker.Tapped, len(members)), at: make([]string, len(members)),
		began: time.Now(), cleared: make(map[string]int)}
	for i, m := range members {
		tap, err := m.broker.Tap(broker.Audience{}, "")
		if err != nil {
			rt.Fatal(err)
		}
		w.taps = append(w.taps, tap)
		w.take(rt, i)
	}
	for i, at := range w.at {
		if at != w.at[0] {
			rt.Fatalf("node %d is at %s, node 0 at %s", i, at, w.at[0])
		}
	}
	return w
}

func (w *world) end() {
	for _, tap := range w.taps {
		tap.Close()
	}
	for _, f := range w.readers {
		f.hangUp()
	}
}

// take adds the new events from a node.
func (w *world) take(rt *rapid.T, node int) {
	batch, err := w.taps[node].Take()
	if err != nil || batch.Gap.Reason != "" {
		rt.Fatalf("node %d: gap %v in its events, or error %v", node, batch.Gap, err)
	}
	w.logs[node] = append(w.logs[node], batch.Messages...)
	w.at[node] = batch.Position
}

// settle waits for the result of the message.
func (s *submitted) settle(rt *rapid.T, w *world) {
	if s.wait == nil {
		return
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	s.receipt, s.err = s.wait(ctx)
	s.wait = nil
	if s.err != nil && !errors.Is(s.err, broker.ErrKeyUsed) && !s.unsure {
		rt.Fatalf("node %d: publish %q: %v", s.node, s.Data, s.err)
	}
}

// finish waits for all messages and clients, and checks that no event is missing or
// duplicated.
func (w *world) finish(rt *rapid.T) {
	w.settle(rt)
	var last uint64
	for _, s := range w.sent {
		last = max(last, sequence(s.receipt.ID))
	}
	for i := range w.members {
		eventually(w.t, func() bool { w.take(rt, i); return sequence(w.at[i]) >= last }, func() string {
			return fmt.Sprintf("node %d is at %s and doesn't reach %d", i, w.at[i], last)
		})
	}
	for i, log := range w.logs {
		if !slices.EqualFunc(log, w.logs[0], same) {
			rt.Fatalf("node %d has other events than node 0:\n%v\n%v", i, log, w.logs[0])
		}
	}
	w.checkLog(rt)
	for _, f := range w.readers {
		if f.read(); f.stream == nil {
			w.open(rt, f, rapid.IntRange(0, len(w.members)-1).Draw(rt, "node"))
		}
	}
	for _, f := range w.readers {
		w.checkReader(rt, f)
	}
}

// checkLog checks that the events are what was published.
func (w *world) checkLog(rt *rapid.T) {
	log, index := w.logs[0], make(map[string]int)
	for i, m := range log {
		if i > 0 && sequence(m.ID) <= sequence(log[i-1].ID) {
			rt.Fatalf("%s follows %s", m.ID, log[i-1].ID)
		}
		index[m.ID] = i
	}

	accounted := make([]bool, len(log))
	keys := make(map[string]string) // the id of each key's message
	order := make([]uint64, len(w.members))
	for _, s := range w.sent {
		if s.err != nil {
			continue
		}
		i, ok := index[s.receipt.ID]
		if !ok || log[i].Audience != s.Audience || log[i].Data != s.Data {
			rt.Fatalf("%q to %v was acknowledged as %s, which is missing: %v", s.Data, s.Audience, s.receipt.ID, log)
		}
		if id, known := keys[s.IdempotencyKey]; known && s.IdempotencyKey != "" {
			if id != s.receipt.ID {
				rt.Fatalf("%q with the key %q was acknowledged as %s and %s", s.Data, s.IdempotencyKey, id, s.receipt.ID)
			}
			continue // another repetition may be the first in the event log
		}
		keys[s.IdempotencyKey] = s.receipt.ID
		if accounted[i] {
			rt.Fatalf("two messages were acknowledged as %s", s.receipt.ID)
		}
		accounted[i] = true
		if s.IdempotencyKey == "" {
			if at := sequence(s.receipt.ID); at <= order[s.node] {
				rt.Fatalf("node %d: %q was submitted after %d, but is at %d", s.node, s.Data, order[s.node], at)
			}
			order[s.node] = sequence(s.receipt.ID)
		}
	}

	for _, s := range w.sent {
		switch _, known := keys[s.IdempotencyKey]; {
		case s.err == nil:
		case errors.Is(s.err, broker.ErrKeyUsed):
			if i := index[keys[s.IdempotencyKey]]; known && log[i].Data == s.Data {
				rt.Fatalf("%q was rejected for its key %q, which is its own", s.Data, s.IdempotencyKey)
			}
		default: // it may be in the event log
			i := slices.IndexFunc(log, func(m broker.Tapped) bool { return m.Data == s.Data && m.Audience == s.Audience })
			for ; i >= 0 && i < len(log); i++ {
				if log[i].Data == s.Data && !accounted[i] {
					accounted[i] = true
					break
				}
			}
		}
	}

	if i := slices.Index(accounted, false); i >= 0 {
		rt.Fatalf("%v was not published", log[i])
	}
}

// checkReader checks that a client has received its events. A client that reconnects
// late to the node with the short history may get a reset instead.
func (w *world) checkReader(rt *rapid.T, f *reader) {
	last := f.last(w.logs[0])
	eventually(w.t, func() bool {
		f.read()
		return f.lastID != "" && sequence(f.lastID) >= last
	}, func() string { return fmt.Sprintf("%s doesn't reach %d, but %s", f, last, f.lastID) })
	for _, s := range w.sent[f.before:] {
		if s.err == nil && s.IdempotencyKey == "" && sequence(s.receipt.ID) <= f.start {
			rt.Fatalf("%s connected before %q was published as %s", f, s.Data, s.receipt.ID)
		}
	}
	f.check(rt, w.logs[0], func(reset received) bool {
		return reset.node == len(w.members)-1 && strings.Contains(reset.data, `"expired"`)
	})
}
