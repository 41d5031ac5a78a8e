package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// follower is a client that goes from node to node, and what has come to it. It
// belongs to one goroutine.
type follower struct {
	name    string
	user    string
	topics  []string
	lastID  string
	start   uint64 // its position when it came without one
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

func (f *follower) String() string {
	return fmt.Sprintf("client %s (user %q, topics %q, last on node %d, from %d on)", f.name, f.user, f.topics, f.node, f.start)
}

// open opens a stream on a node, from where the client was. One who was nowhere
// yet begins anew.
func (f *follower) open(ctx context.Context, m *member, node int) error {
	if f.lastID == "" {
		f.got, f.start = nil, 0
	}
	to := &wire{more: make(chan struct{}, 1)}
	if err := m.broker.Await(ctx, f.lastID); err != nil {
		return err
	}
	stream := m.broker.NewStream(broker.Subscription{User: f.user, Topics: f.topics, LastEventID: f.lastID})
	if err := stream.Start(to, broker.Opening{}); err != nil {
		return err
	}
	f.node, f.wire, f.stream = node, to, stream
	f.decoder = &eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		if string(e.Type) == eventstream.MarkType {
			return
		}
		f.got = append(f.got, arrived{sequence(string(e.ID)), string(e.Data), string(e.Type) == "peald.reset", node})
	}}
	return nil
}

// read takes in what has come, and notices if the stream ended.
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

// hangUp breaks the connection; what has come and was not read is lost on the
// way.
func (f *follower) hangUp() {
	if f.stream != nil {
		f.stream.HangUp()
		f.stream = nil
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

// last is the last of a log's messages that the client is to get, 0 for none.
func (f *follower) last(log []broker.Tapped) (seq uint64) {
	for _, m := range log {
		if f.wants(m.Audience) {
			seq = sequence(m.ID)
		}
	}
	return seq
}

// check holds that the client has what is its own of a log that it has come to
// the end of, once and in the log's order, but for where it was told a reset that
// may be.
func (f *follower) check(tb tester, log []broker.Tapped, mayReset func(arrived) bool) {
	tb.Helper()
	at, rest := f.start, log
	skip := func(to uint64) {
		for len(rest) > 0 && (!f.wants(rest[0].Audience) || sequence(rest[0].ID) <= to) {
			rest = rest[1:]
		}
	}
	for _, e := range f.got {
		skip(at)
		switch {
		case e.reset:
			if !mayReset(e) {
				tb.Fatalf("%s was told a reset by node %d after %d: %s", f, e.node, at, e.data)
			}
		case len(rest) == 0, sequence(rest[0].ID) != e.seq, rest[0].Data != e.data:
			tb.Fatalf("%s got %d, %q, from node %d after %d, where it lacks %v", f, e.seq, e.data, e.node, at, rest[:min(len(rest), 3)])
		}
		at = e.seq
	}
	if skip(at); len(rest) > 0 {
		tb.Fatalf("%s never got %v", f, rest[:min(len(rest), 3)])
	}
}

// same says whether two nodes have the same message at the same place.
func same(a, b broker.Tapped) bool {
	return a.ID == b.ID && a.Audience == b.Audience && a.Event == b.Event && a.Data == b.Data && a.At.Equal(b.At)
}

// tester is a test, also one of rapid's.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// wire takes everything and keeps it.
type wire struct {
	more chan struct{} // has a token when there is something to read

	mu    sync.Mutex
	buf   bytes.Buffer
	ended bool
}

func (w *wire) Write(pieces [][]byte) (n int, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range pieces {
		w.buf.Write(p)
		n += len(p)
	}
	w.wake()
	return n, nil
}

func (w *wire) Close(broker.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.wake()
}

func (w *wire) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// next returns what has come and not been read, and whether more may come.
func (w *wire) next() (unread []byte, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	unread = bytes.Clone(w.buf.Bytes())
	w.buf.Reset()
	return unread, !w.ended
}
