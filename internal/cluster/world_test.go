package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// world is a cluster, what was published on it and its clients, from some moment
// on at which all nodes have the same log.
type world struct {
	t       *testing.T
	number  int // of the world: keys of others mean nothing to it
	members []*member
	taps    []*broker.Tap
	logs    [][]broker.Tapped // as each node has it
	at      []string          // up to where
	sent    []*submitted
	readers []*follower
}

// submitted is a message on its way, or what became of it.
type submitted struct {
	broker.Message

	node    int
	wait    func(context.Context) (broker.Receipt, error)
	receipt broker.Receipt
	err     error
	unsure  bool // its node was restarted before it was acknowledged
}

// follower is a client and what has come to it.
type follower struct {
	name    string
	user    string
	topics  []string
	lastID  string
	start   uint64 // its position when it came without one
	before  int    // messages that had been submitted by then
	node    int
	stream  *broker.Stream // nil while it is not connected
	wire    *wire
	decoder *eventstream.Decoder
	got     []arrived
}

// arrived is an event that came to a client.
type arrived struct {
	seq   uint64
	data  string
	reset bool
	node  int
}

// wire takes everything and keeps it.
type wire struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	read  int
	ended bool
}

func (w *wire) Write(pieces [][]byte) (n int, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range pieces {
		w.buf.Write(p)
		n += len(p)
	}
	return n, nil
}

func (w *wire) Close(broker.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}

// next returns what has come and not been read, and whether more may come.
func (w *wire) next() (unread []byte, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	unread = bytes.Clone(w.buf.Bytes()[w.read:])
	w.read = w.buf.Len()
	return unread, !w.ended
}

func newWorld(t *testing.T, rt *rapid.T, members []*member, number int) *world {
	t.Helper()
	w := &world{t: t, number: number, members: members, logs: make([][]broker.Tapped, len(members)), at: make([]string, len(members))}
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
		if f.stream != nil {
			f.stream.HangUp()
		}
	}
}

// take notes what has come into a node's log.
func (w *world) take(rt *rapid.T, node int) {
	batch, err := w.taps[node].Take()
	if err != nil || batch.Gap.Reason != "" {
		rt.Fatalf("node %d: its log has a gap, %v, or can't be read: %v", node, batch.Gap, err)
	}
	w.logs[node] = append(w.logs[node], batch.Messages...)
	w.at[node] = batch.Position
}

// settle waits for what becomes of the message.
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

// read takes in what has come to the client, and notices if its stream ended.
func (f *follower) read() {
	if f.stream == nil {
		return
	}
	unread, open := f.wire.next()
	f.decode(unread)
	if !open {
		f.stream = nil
	}
}

func (f *follower) decode(text []byte) {
	for line := range bytes.Lines(text) {
		_, _ = f.decoder.Write(line)
		if id := f.decoder.LastEventID(); id != "" {
			if f.start == 0 {
				f.start = sequence(id)
			}
			f.lastID = id
		}
	}
}

// finish lets all messages and clients arrive, and holds that nothing is missing
// and nothing too much.
func (w *world) finish(rt *rapid.T) {
	w.settle(rt)
	var last uint64
	for _, s := range w.sent {
		last = max(last, sequence(s.receipt.ID))
	}
	for i := range w.members {
		eventually(w.t, func() bool { w.take(rt, i); return sequence(w.at[i]) >= last }, func() string {
			return fmt.Sprintf("node %d is at %s, and never gets to %d", i, w.at[i], last)
		})
	}
	for i, log := range w.logs {
		if !slices.EqualFunc(log, w.logs[0], same) {
			rt.Fatalf("node %d has another log than node 0:\n%v\n%v", i, log, w.logs[0])
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

// same says whether two nodes have the same message at the same place.
func same(a, b broker.Tapped) bool {
	return a.ID == b.ID && a.Audience == b.Audience && a.Event == b.Event && a.Data == b.Data && a.At.Equal(b.At)
}

// checkLog holds that the log is what was published.
func (w *world) checkLog(rt *rapid.T) {
	log, places := w.logs[0], make(map[string]int)
	for i, m := range log {
		if i > 0 && sequence(m.ID) <= sequence(log[i-1].ID) {
			rt.Fatalf("%s comes behind %s", m.ID, log[i-1].ID)
		}
		places[m.ID] = i
	}
	accounted := make([]bool, len(log))
	keys := make(map[string]string) // the id of each key's message
	order := make([]uint64, len(w.members))
	for _, s := range w.sent {
		if s.err != nil {
			continue
		}
		i, ok := places[s.receipt.ID]
		if !ok || log[i].Audience != s.Audience || log[i].Data != s.Data {
			rt.Fatalf("%q to %v was acknowledged as %s, which is not in the log: %v", s.Data, s.Audience, s.receipt.ID, log)
		}
		if id, known := keys[s.IdempotencyKey]; known && s.IdempotencyKey != "" {
			if id != s.receipt.ID {
				rt.Fatalf("%q with the key %q is in the log as %s and as %s", s.Data, s.IdempotencyKey, id, s.receipt.ID)
			}
			continue // it need not be the first one that was taken in
		}
		keys[s.IdempotencyKey] = s.receipt.ID
		if accounted[i] {
			rt.Fatalf("two messages were acknowledged as %s", s.receipt.ID)
		}
		accounted[i] = true
		if s.IdempotencyKey == "" {
			if at := sequence(s.receipt.ID); at <= order[s.node] {
				rt.Fatalf("node %d: %q was submitted later than what has the place %d, and came to be %d", s.node, s.Data, order[s.node], at)
			}
			order[s.node] = sequence(s.receipt.ID)
		}
	}
	for _, s := range w.sent {
		switch _, known := keys[s.IdempotencyKey]; {
		case s.err == nil:
		case errors.Is(s.err, broker.ErrKeyUsed):
			if i := places[keys[s.IdempotencyKey]]; known && log[i].Data == s.Data {
				rt.Fatalf("%q was refused for its key %q, which is its own", s.Data, s.IdempotencyKey)
			}
		default: // it may be there
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
		rt.Fatalf("%v is in the log, and nobody published it then", log[i])
	}
}

// checkReader holds that a client has what is its own of the log.
func (w *world) checkReader(rt *rapid.T, f *follower) {
	who := func() string {
		return fmt.Sprintf("client %s (user %q, topics %q, last on node %d, from %d on)", f.name, f.user, f.topics, f.node, f.start)
	}
	var own []broker.Tapped
	for _, m := range w.logs[0] {
		if f.wants(m.Audience) {
			own = append(own, m)
		}
	}
	last := uint64(0)
	if len(own) > 0 {
		last = sequence(own[len(own)-1].ID)
	}
	eventually(w.t, func() bool {
		f.read()
		return f.lastID != "" && sequence(f.lastID) >= last
	}, func() string { return who() + fmt.Sprintf(" never gets to %d, but to %s", last, f.lastID) })
	for _, s := range w.sent[f.before:] {
		if s.err == nil && s.IdempotencyKey == "" && sequence(s.receipt.ID) <= f.start {
			rt.Fatalf("%s came before %q was published, as %s", who(), s.Data, s.receipt.ID)
		}
	}
	at := f.start
	rest := own
	for len(rest) > 0 && sequence(rest[0].ID) <= at {
		rest = rest[1:]
	}
	for _, e := range f.got {
		switch {
		case e.reset:
			if e.node != len(w.members)-1 || !strings.Contains(e.data, `"expired"`) {
				rt.Fatalf("%s was told a reset by node %d: %s", who(), e.node, e.data)
			}
			for len(rest) > 0 && sequence(rest[0].ID) <= e.seq {
				rest = rest[1:]
			}
		case len(rest) == 0, sequence(rest[0].ID) != e.seq, rest[0].Data != e.data:
			rt.Fatalf("%s got %d, %q, after %d, where it lacks %v", who(), e.seq, e.data, at, rest)
		default:
			rest = rest[1:]
		}
		at = e.seq
	}
	if len(rest) > 0 {
		rt.Fatalf("%s never got %v", who(), rest)
	}
}

func (f *follower) wants(a broker.Audience) bool {
	if user, ok := a.User(); ok {
		return user == f.user
	}
	if topic, ok := a.Topic(); ok {
		return slices.ContainsFunc(f.topics, func(t string) bool { return broker.Covers(t, topic) })
	}
	return true
}
