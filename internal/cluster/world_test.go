package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// world is the model of a cluster: its messages and clients since a moment at which
// all nodes had the same events, no retained values, and no policies.
type world struct {
	t        *testing.T
	number   int // of the world, to make its keys unique
	members  []*member
	policies [][]broker.TopicPolicy // of each node
	taps     []*broker.Tap
	logs     [][]broker.Tapped // the events from each node
	at       []string          // the position of each tap
	sent     []*submitted
	clears   []cleared
	readers  []*reader
	counts   *counts
	begin    uint64 // the position of the nodes at first

	restarted []bool // the tap of the node may lack events that had expired by then

	// The fields below are set by finish.

	log    []broker.Tapped         // the events
	source map[string][]*submitted // the messages by the id of their event
}

// counts counts what has been tested.
type counts struct {
	Streams, Exact, Values, Resets, Ends, Stopped int
}

// submitted is a message in flight, or its result.
type submitted struct {
	broker.Message

	node        int
	retainedFor []broker.Audience // because of the message, or of its node's policy
	wait        func(context.Context) (broker.Receipt, error)
	receipt     broker.Receipt
	err         error
	unsure      bool // whether its node was restarted before the acknowledgment
}

// audiences returns all audiences of the message.
func (s *submitted) audiences() []broker.Audience {
	all := []broker.Audience{s.Audience}
	for _, name := range s.Topics {
		all = append(all, broker.ToTopic(name))
	}
	return all
}

// cleared is a removal of retained values, at an unknown position in a range.
type cleared struct {
	broker.Clear

	after, upTo uint64
}

const (
	// brief is in the data of messages that may expire during the test.
	brief = "brief "
	// last is the suffix of the data of messages that end their topic.
	last = " last"
)

func audiences() []broker.Audience {
	return []broker.Audience{
		broker.Everyone(), broker.ToUser("alice"), broker.ToUser("bob"), broker.ToTopic("a"), broker.ToTopic("a.b"), broker.ToTopic("c"),
	}
}

func newWorld(t *testing.T, rt *rapid.T, members []*member, number int) *world {
	t.Helper()
	w := &world{
		t: t, number: number, members: members, policies: make([][]broker.TopicPolicy, len(members)), restarted: make([]bool, len(members)),
		logs: make([][]broker.Tapped, len(members)), at: make([]string, len(members)),
	}
	for i := range members {
		w.configure(i, nil)
	}
	for _, a := range append(audiences(), broker.ToTopic("d")) {
		if _, ok := a.Topic(); ok {
			members[0].publish(t, broker.Message{Audience: a, Data: "the topic hasn't ended"})
		}
		if _, err := members[0].ClearRetained(t.Context(), broker.Clear{Audience: a}); err != nil {
			rt.Fatal(err)
		}
	}
	await(t, members[0].position(t), members...)

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
	w.begin = sequence(w.at[0])
	return w
}

func (w *world) end() {
	for _, tap := range w.taps {
		tap.Close()
	}
	for _, r := range w.readers {
		r.hangUp()
	}
}

// configure gives a node policies for topics.
func (w *world) configure(node int, policies []broker.TopicPolicy) {
	cfg := worldConfig(node, len(w.members))
	cfg.Topics = policies
	w.members[node].broker.Reconfigure(cfg)
	w.policies[node] = policies
}

// retains reports whether a node's policies retain messages to an audience.
func (w *world) retains(node int, a broker.Audience) bool {
	topic, ok := a.Topic()
	if !ok {
		return false
	}
	i := slices.IndexFunc(w.policies[node], func(p broker.TopicPolicy) bool { return broker.Covers(p.Pattern, topic) })
	return i >= 0 && w.policies[node][i].Retain
}

// latest returns the highest id that was acknowledged, or "".
func (w *world) latest() (id string) {
	for _, s := range w.sent {
		if sequence(s.receipt.ID) > sequence(id) {
			id = s.receipt.ID
		}
	}
	return id
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

// finish waits for all messages and clients, and checks that no event or value is missing
// or duplicated.
func (w *world) finish(rt *rapid.T) {
	w.settle(rt)
	s := &submitted{Message: toAll("the end")}
	w.submit(rt, s)
	s.settle(rt, w)
	end := w.latest()
	for i := range w.members {
		eventually(w.t, func() bool { w.take(rt, i); return sequence(w.at[i]) >= sequence(end) }, func() string {
			return fmt.Sprintf("node %d is at %s and doesn't reach %s", i, w.at[i], end)
		})
	}
	w.log = w.logs[len(w.members)-1] // which is never restarted
	for i := range w.logs {
		w.checkNode(rt, i)
	}
	w.checkLog(rt)
	agree(w.t, w.members...)
	w.checkState(rt)

	for _, r := range w.readers {
		eventually(w.t, func() bool {
			if w.read(rt, r); r.stream == nil && !r.stopped {
				w.open(rt, r, rapid.IntRange(0, len(w.members)-1).Draw(rt, "node"), drawnStart{})
				w.read(rt, r)
			}
			return r.stopped || sequence(r.lastID) >= sequence(end)
		}, func() string { return fmt.Sprintf("%s doesn't reach %s, but %s", r, end, r.lastID) })
	}
	for _, r := range w.readers {
		w.checkReader(rt, r)
	}
}

// checkNode checks that a node has the same events as the last one.
func (w *world) checkNode(rt *rapid.T, node int) {
	got, want := w.logs[node], w.log
	if w.restarted[node] {
		expires := func(m broker.Tapped) bool { return isBrief(m.Data) }
		got, want = slices.DeleteFunc(slices.Clone(got), expires), slices.DeleteFunc(slices.Clone(want), expires)
	}
	for i, m := range got {
		if i == len(want) || !same(m, want[i]) {
			rt.Fatalf("node %d has %v after %v, want %v", node, m, got[max(0, i-3):i], want[i:min(i+3, len(want))])
		}
	}
	if len(got) < len(want) {
		rt.Fatalf("node %d doesn't have %v", node, want[len(got)])
	}
}

// checkLog checks that the events are what was published.
func (w *world) checkLog(rt *rapid.T) {
	log, index := w.log, make(map[string]int)
	for i, m := range log {
		if i > 0 && sequence(m.ID) <= sequence(log[i-1].ID) {
			rt.Fatalf("%s follows %s", m.ID, log[i-1].ID)
		}
		index[m.ID] = i
	}

	accounted := make([]bool, len(log))
	w.source = make(map[string][]*submitted)
	keys := make(map[string]string) // the id of each key's message
	order := make([]uint64, len(w.members))
	for _, s := range w.sent {
		if s.err != nil {
			continue
		}
		i, ok := index[s.receipt.ID]
		if !ok || !slices.Equal(audiencesOf(log[i]), s.audiences()) || log[i].ExcludeUser != s.ExcludeUser || log[i].Data != s.Data {
			rt.Fatalf("%q to %v was acknowledged as %s, which is missing: %v", s.Data, s.Audience, s.receipt.ID, log)
		}
		w.source[s.receipt.ID] = append(w.source[s.receipt.ID], s)
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
					w.source[log[i].ID] = append(w.source[log[i].ID], s)
					break
				}
			}
		}
	}

	if i := slices.Index(accounted, false); i >= 0 {
		rt.Fatalf("%v was not published", log[i])
	}
}
