package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// reader is a client of a world. It records what it receives.
type reader struct {
	name    string
	user    string
	topics  []string
	lastID  string
	stream  *broker.Stream // nil while it is not connected
	wire    *wire
	decoder *eventstream.Decoder
	conns   []*connection
	stopped bool      // the server has asked it to stop
	stops   []stopped // the times that happened
}

// connection is one stream of a reader.
type connection struct {
	node   int
	from   uint64 // the position that it resumes from; 0 for none
	start  drawnStart
	sent   int // the number of messages that were submitted before it was opened
	before snapshot
	after  snapshot
	blocks []block
}

// startKind names the start of a stream that has no position.
type startKind string

const (
	fresh  startKind = ""
	all    startKind = "all"
	since  startKind = "since"
	rewind startKind = "rewind"
)

// drawnStart describes where a stream starts.
type drawnStart struct {
	kind   startKind
	at     time.Time // for since
	events int       // for rewind
	of     broker.Start
}

// block is a part of a stream with data.
type block struct {
	kind  string // "mark", "reset", "end" or "" for an event
	id    string // the last event id as of the block
	hasID bool   // whether the block changed it
	data  string
	held  snapshot // what the history held after a reset was received
}

// snapshot is the position of a node, and the events that its history held there.
type snapshot struct {
	at     uint64
	events []broker.Tapped
}

// stopped is a reply that a client has received everything for its only topic.
type stopped struct {
	before, after, lastID uint64
}

func (r *reader) String() string {
	return fmt.Sprintf("client %s (user %q, topics %q)", r.name, r.user, r.topics)
}

// conn returns the current or last connection.
func (r *reader) conn() *connection { return r.conns[len(r.conns)-1] }

// hangUp closes the connection. Whatever has arrived but hasn't been read is lost.
func (r *reader) hangUp() {
	if r.stream != nil {
		r.stream.HangUp()
		r.stream = nil
	}
}

func (r *reader) wants(a broker.Audience) bool {
	f := follower{user: r.user, topics: r.topics}
	return f.wants(a)
}

// wantsAny reports whether the client belongs to one of the audiences of a message.
func (r *reader) wantsAny(m broker.Tapped) bool { return slices.ContainsFunc(audiencesOf(m), r.wants) }

// gets reports whether the client must get a message.
func (r *reader) gets(m broker.Tapped) bool {
	return (m.ExcludeUser == "" || m.ExcludeUser != r.user) && r.wantsAny(m)
}

// isAlone reports whether the client subscribes to one topic alone.
func (r *reader) isAlone() bool {
	return len(r.topics) == 1 && !strings.ContainsAny(r.topics[0], "*>")
}

// snapshot returns what a node's history holds. A tap names all topics of a message, also
// those for which the history doesn't hold it any more, so each audience has a tap.
func (w *world) snapshot(rt *rapid.T, node int) (s snapshot) {
	end := w.members[node].position(w.t)
	held := make(map[uint64]broker.Tapped)
	for _, a := range append(audiences(), broker.ToTopic("d")) {
		for _, m := range w.heldFor(rt, node, a, end) {
			seq := sequence(m.ID)
			if topic, ok := a.Topic(); ok && len(m.Topics) > 0 {
				m.Topics = slices.Concat(held[seq].Topics, []string{topic})
			}
			held[seq] = m
		}
	}
	s.at = sequence(end)
	for _, seq := range slices.Sorted(maps.Keys(held)) {
		s.events = append(s.events, held[seq])
	}
	return s
}

// heldFor returns the events up to an id that a node's history holds for an audience.
func (w *world) heldFor(rt *rapid.T, node int, a broker.Audience, end string) (events []broker.Tapped) {
	epoch, _, _ := strings.Cut(end, "-")
	tap, err := w.members[node].broker.Tap(a, epoch+"-0")
	if err != nil {
		rt.Fatal(err)
	}
	defer tap.Close()
	for at := uint64(0); at < sequence(end); {
		batch, err := tap.Take()
		if err != nil {
			rt.Fatal(err)
		}
		events, at = append(events, batch.Messages...), sequence(batch.Position)
	}
	return slices.DeleteFunc(events, func(m broker.Tapped) bool { return sequence(m.ID) > sequence(end) })
}

// holds reports whether the history held a message for all of its audiences that are
// wanted.
func (s snapshot) holds(m broker.Tapped, wanted func(broker.Audience) bool) bool {
	i, found := slices.BinarySearchFunc(s.events, sequence(m.ID), func(m broker.Tapped, want uint64) int { return int(sequence(m.ID)) - int(want) })
	return found && !slices.ContainsFunc(audiencesOf(m), func(a broker.Audience) bool { return wanted(a) && !slices.Contains(audiencesOf(s.events[i]), a) })
}

// holdsAny reports whether the history held a message for any audience of the client.
func (s snapshot) holdsAny(m broker.Tapped, r *reader) bool {
	return slices.ContainsFunc(audiencesOf(m), func(a broker.Audience) bool {
		return r.wants(a) && s.holds(m, func(wanted broker.Audience) bool { return wanted == a })
	})
}

// isStable reports whether the history held the same events before and after the
// connection was opened. What it held in between is only certain if it did.
func (c *connection) isStable() bool {
	return c.before.at == c.after.at && slices.EqualFunc(c.before.events, c.after.events, func(a, b broker.Tapped) bool {
		return same(a, b) && slices.Equal(a.Topics, b.Topics)
	})
}

// open opens a client's stream on a node, unless the node asks it to stop.
func (w *world) open(rt *rapid.T, r *reader, node int, start drawnStart) {
	m := w.members[node]
	if err := m.broker.Await(w.t.Context(), r.lastID); err != nil {
		rt.Fatalf("node %d: start a stream: %v", node, err)
	}
	before := sequence(m.position(w.t))
	if r.stopped = m.broker.NothingFollows(r.topics, r.lastID); r.stopped {
		r.stops = append(r.stops, stopped{before, sequence(m.position(w.t)), sequence(r.lastID)})
		w.counts.Stopped++
		return
	}

	c := &connection{node: node, from: sequence(r.lastID), start: start, sent: len(w.sent)}
	if start.kind != fresh {
		c.before = w.snapshot(rt, node)
	}
	r.wire = &wire{more: make(chan struct{}, 1)}
	r.stream = m.broker.NewStream(broker.Subscription{User: r.user, Topics: r.topics, LastEventID: r.lastID, Start: start.of})
	if err := r.stream.Start(r.wire, broker.Opening{}); err != nil {
		rt.Fatalf("node %d: start a stream: %v", node, err)
	}
	if c.after.at = sequence(m.position(w.t)); start.kind != fresh {
		c.after = w.snapshot(rt, node)
	}
	before = 0
	r.decoder = &eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		kind, _ := strings.CutPrefix(string(e.Type), broker.ReservedTypes)
		if kind == string(e.Type) {
			kind = ""
		}
		b := block{kind: kind, id: string(e.ID), hasID: sequence(string(e.ID)) != before, data: string(e.Data)}
		if before = sequence(b.id); kind == "reset" {
			b.held = w.snapshot(rt, node)
		}
		c.blocks = append(c.blocks, b)
	}}
	r.conns = append(r.conns, c)
	w.counts.Streams++
}

// read decodes what a client has received, and notices if its stream was closed.
func (w *world) read(rt *rapid.T, r *reader) {
	if r.stream == nil {
		return
	}
	unread, open := r.wire.next()
	if w.decode(rt, r, unread); !open {
		r.stream = nil
	}
}

func (w *world) decode(_ *rapid.T, r *reader, text []byte) {
	_, _ = r.decoder.Write(text)
	if id := r.decoder.LastEventID(); id != "" {
		r.lastID = id
	}
}
