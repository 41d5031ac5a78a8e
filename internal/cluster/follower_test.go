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

// follower is a client that moves from node to node, and the events that it has
// received. It is owned by one goroutine.
type follower struct {
	name    string
	user    string
	topics  []string
	lastID  string
	start   uint64 // its first position
	node    int
	stream  *broker.Stream // nil while it is not connected
	wire    *wire
	decoder *eventstream.Decoder
	got     []received
}

// received is an event that a client has received.
type received struct {
	seq   uint64
	data  string
	reset bool
	node  int
}

func (f *follower) String() string {
	return fmt.Sprintf("client %s (user %q, topics %q, last on node %d, started at %d)", f.name, f.user, f.topics, f.node, f.start)
}

// open opens a stream on a node, and resumes from the client's last id. A client
// without one starts over.
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
		f.got = append(f.got, received{sequence(string(e.ID)), string(e.Data), string(e.Type) == "peald.reset", node})
	}}
	return nil
}

// read decodes what has arrived, and notices if the stream was closed.
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

// hangUp closes the connection. Whatever has arrived but hasn't been read is lost.
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

// last returns the sequence number of the last message in log that the client must
// receive, or 0 for none.
func (f *follower) last(log []broker.Tapped) (seq uint64) {
	for _, m := range log {
		if f.wants(m.Audience) {
			seq = sequence(m.ID)
		}
	}
	return seq
}

// check checks that a client that has reached the end of log has received each of
// its messages once and in order, except where it got a reset for which mayReset
// reports true.
func (f *follower) check(tb tester, log []broker.Tapped, mayReset func(received) bool) {
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
				tb.Fatalf("%s got a reset from node %d after %d: %s", f, e.node, at, e.data)
			}
		case len(rest) == 0, sequence(rest[0].ID) != e.seq, rest[0].Data != e.data:
			tb.Fatalf("%s received %d, %q, from node %d after %d, want %v", f, e.seq, e.data, e.node, at, rest[:min(len(rest), 3)])
		}
		at = e.seq
	}
	if skip(at); len(rest) > 0 {
		tb.Fatalf("%s lacks %v", f, rest[:min(len(rest), 3)])
	}
}

// same reports whether messages from two nodes are the same. The histories of the nodes
// may hold a message for different topics.
func same(a, b broker.Tapped) bool {
	several := len(a.Topics)+len(b.Topics) > 0
	return a.ID == b.ID && (several || a.Audience == b.Audience) && a.ExcludeUser == b.ExcludeUser && a.Event == b.Event && a.Data == b.Data && a.At.Equal(b.At)
}

// audiencesOf returns the audiences of a message, or those for which the history holds it
// if it is from a snapshot.
func audiencesOf(m broker.Tapped) (all []broker.Audience) {
	for _, name := range m.Topics {
		all = append(all, broker.ToTopic(name))
	}
	if len(all) == 0 {
		all = append(all, m.Audience)
	}
	return all
}

// tester is a test from the package testing or rapid.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// wire is a sink that buffers everything.
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

// next returns what has arrived and hasn't been read, and whether more may arrive.
func (w *wire) next() (unread []byte, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	unread = bytes.Clone(w.buf.Bytes())
	w.buf.Reset()
	return unread, !w.ended
}
