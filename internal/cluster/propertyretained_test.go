package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// valueTopics are the topics of a world with retained values. Other messages don't use
// them.
func valueTopics() []string { return []string{"r.1", "r.2", "r.3"} }

// retain publishes a message that is retained, and may end its topic.
func (w *world) retain(rt *rapid.T) {
	s := &submitted{node: rapid.IntRange(0, len(w.members)-1).Draw(rt, "node")}
	s.Data = fmt.Sprint(len(w.sent))
	s.Audience = broker.ToTopic(rapid.SampledFrom(valueTopics()).Draw(rt, "topic"))
	s.ConflateKey = rapid.SampledFrom([]string{"", "k"}).Draw(rt, "conflate key")
	s.Retain = rapid.IntRange(0, 3).Draw(rt, "retain") > 0
	s.Final = rapid.IntRange(0, 5).Draw(rt, "final") == 0
	if rapid.IntRange(0, 5).Draw(rt, "ttl") == 0 {
		s.TTL = time.Hour
	}
	w.submit(rt, s)
	if rapid.Bool().Draw(rt, "wait") {
		s.settle(rt, w)
	}
}

// clear clears the values of a topic, after all messages so far.
func (w *world) clear(rt *rapid.T) {
	w.settle(rt)
	topic := rapid.SampledFrom(valueTopics()).Draw(rt, "topic")
	node := rapid.IntRange(0, len(w.members)-1).Draw(rt, "node")
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if _, err := w.members[node].ClearRetained(ctx, broker.Clear{Audience: broker.ToTopic(topic)}); err != nil {
		rt.Fatalf("node %d: clear %s: %v", node, topic, err)
	}
	w.cleared[topic] = len(w.sent)
}

// checkValues checks that all nodes have the same retained values, and that these are the
// last ones in the event log. Messages that were sent to nodes that restarted meanwhile
// are only compared between nodes.
func (w *world) checkValues(rt *rapid.T) {
	values := agree(w.t, w.members...)
	want := make(map[string]string) // the data by topic and conflate key
	order := slices.Clone(w.sent)
	slices.SortFunc(order, func(a, b *submitted) int { return int(sequence(a.receipt.ID)) - int(sequence(b.receipt.ID)) })
	for _, s := range order {
		topic, ok := s.Audience.Topic()
		if !ok || !s.Retain || !slices.Contains(valueTopics(), topic) {
			continue
		}
		if s.err != nil || s.unsure {
			return
		}
		if slices.Index(w.sent, s) >= w.cleared[topic] {
			want[topic+" "+s.ConflateKey] = s.Data
		}
	}
	for key, data := range want {
		if !slices.ContainsFunc(values, func(v string) bool { return strings.HasSuffix(v, " "+data) }) {
			rt.Fatalf("%s has no value %s: %q", key, data, values)
		}
	}
}

// checkStarts opens new streams on all nodes, with the same topics and the same start, and
// checks that they receive the same events. The history of the last node is too short to
// compare it.
func (w *world) checkStarts(rt *rapid.T) {
	sub := broker.Subscription{Topics: rapid.SampledFrom([][]string{{"r.1"}, {"r.1", "r.2", "a"}, {"r.*"}, {">"}}).Draw(rt, "topics")}
	nodes := w.members
	switch rapid.IntRange(0, 3).Draw(rt, "start") {
	case 0:
	case 1:
		sub.Start, nodes = broker.SinceAll(), nodes[:2]
	case 2:
		sub.Start, nodes = broker.Rewind(rapid.IntRange(1, shortHistory/2).Draw(rt, "rewind")), nodes[:2]
	default:
		sub.Start, nodes = broker.SinceTime(w.began), nodes[:2]
	}

	w.level(rt)
	defer w.level(rt)
	var streams []*startedStream
	for _, m := range nodes {
		s := &startedStream{wire: &wire{more: make(chan struct{}, 1)}}
		s.decoder.OnEvent = s.onEvent
		stream := m.broker.NewStream(sub)
		if err := stream.Start(s.wire, broker.Opening{}); err != nil {
			rt.Fatal(err)
		}
		defer stream.HangUp()
		streams = append(streams, s)
	}
	last := &submitted{Message: toAll(fmt.Sprint("last of world ", w.number, " ", len(w.sent)))}
	w.submit(rt, last)
	last.settle(rt, w)
	for i, s := range streams {
		eventually(w.t, func() bool { return s.read(last.Data) }, func() string { return fmt.Sprintf("node %d sends only %q", i, s.got) })
		// A stream whose only topic has ended may be closed before or after the last message.
		s.got = slices.DeleteFunc(s.got, func(e string) bool { return strings.HasSuffix(e, " "+last.Data) })
		if !slices.Equal(s.got, streams[0].got) {
			rt.Fatalf("%v from %+v: node %d sends\n%q\nnode 0 sends\n%q", sub.Topics, sub.Start, i, s.got, streams[0].got)
		}
	}
}

// level waits until all nodes are at the same position.
func (w *world) level(rt *rapid.T) {
	var positions []string
	eventually(w.t, func() bool {
		positions = nil
		for _, m := range w.members {
			at, err := m.broker.Position()
			if err != nil {
				rt.Fatal(err)
			}
			positions = append(positions, at)
		}
		return len(slices.Compact(slices.Clone(positions))) == 1
	}, func() string { return fmt.Sprintf("the nodes are at %q", positions) })
}

// startedStream decodes a stream from its first block.
type startedStream struct {
	wire    *wire
	decoder eventstream.Decoder
	marked  bool
	got     []string // events, and the first position mark
}

func (s *startedStream) onEvent(e eventstream.Event) {
	if string(e.Type) == eventstream.MarkType {
		if s.marked {
			return // a heartbeat
		}
		s.marked = true
	}
	id := e.ID
	if string(e.Type) == "peald.end" {
		id = nil // the position at which the stream was closed
	}
	s.got = append(s.got, fmt.Sprintf("%s %s %s", id, e.Type, e.Data))
}

// read reads what has arrived, and reports whether the stream has ended, or its last event
// has the given data.
func (s *startedStream) read(last string) bool {
	unread, open := s.wire.next()
	_, _ = s.decoder.Write(unread)
	return !open || len(s.got) > 0 && strings.HasSuffix(s.got[len(s.got)-1], " "+last)
}
