package cluster_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

const (
	// longHistory is the number of events that the nodes keep.
	longHistory = 1000
	// shortHistory is the number of events that the last node keeps, so that some
	// clients reconnect too late to resume.
	shortHistory = 30
)

// worldConfig returns the configuration of a node's broker.
func worldConfig(node, nodes int) broker.Config {
	cfg := brokerConfig()
	cfg.History.MaxEvents = longHistory
	if node == nodes-1 {
		cfg.History.MaxEvents = shortHistory
	}
	return cfg
}

// TestClusterProperties runs random interleavings of publishes, starts of streams, cuts at
// any byte, resumes, clears and new policies on the nodes of a cluster. It checks that
// all nodes have the same events and retained values: each acknowledged message once,
// in its publisher's order. It also checks that each client received exactly its own
// events and values since its position, or a reset where there is a gap. If
// SOAK_CLUSTER is set to a duration, the test runs for that long, and also restarts and
// kills nodes.
func TestClusterProperties(t *testing.T) {
	t.Parallel()
	duration := 6 * time.Second
	restarts := false
	if text := os.Getenv("SOAK_CLUSTER"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SOAK_CLUSTER: %v", err)
		}
		restarts = true
	}

	var members []*member
	for i, cfg := range configs(t, 3) {
		members = append(members, startOn(t, cfg, worldConfig(i, 3)))
	}

	serving(t, members...)
	runs, ends := 0, time.Now().Add(duration)
	var opened counts
	for time.Now().Before(ends) && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			if time.Now().After(ends) {
				return
			}
			runs++
			w := newWorld(t, rt, members, runs)
			w.counts = &opened
			defer w.end()
			steps := map[string]func(*rapid.T){
				"publish": w.publish,
				"connect": w.connect,
				"cut":     w.cut,
				"hop":     w.hop,
				"settle":  w.settle,
				"clear":   w.clear,
				"reload":  w.reload,
				"publishes": func(rt *rapid.T) {
					for range rapid.IntRange(1, 40).Draw(rt, "messages") {
						w.publish(rt)
					}
				},
			}
			if restarts {
				steps["restart"] = w.restart
			}
			rt.Repeat(steps)
			w.finish(rt)
		})
	}

	t.Logf("%d interleavings, %+v", runs, opened)
}

func (w *world) publish(rt *rapid.T) {
	s := &submitted{node: rapid.IntRange(0, len(w.members)-1).Draw(rt, "node")}
	switch repeats := rapid.IntRange(0, 9).Draw(rt, "repeats"); {
	case repeats < 2 && len(w.sent) > 0:
		s.Message = w.sent[rapid.IntRange(0, len(w.sent)-1).Draw(rt, "which")].Message
		if repeats == 0 && s.IdempotencyKey != "" {
			s.Data = "another " + s.Data
		}
	default:
		s.Message = w.draw(rt)
	}

	w.submit(rt, s)
	if rapid.Bool().Draw(rt, "wait") {
		s.settle(rt, w)
	}
}

// draw returns a random message.
func (w *world) draw(rt *rapid.T) broker.Message {
	m := broker.Message{Data: fmt.Sprint(len(w.sent)), Audience: rapid.SampledFrom(audiences()).Draw(rt, "audience")}
	if rapid.Bool().Draw(rt, "key") {
		m.IdempotencyKey = fmt.Sprint(w.number, "-", len(w.sent))
	}
	if rapid.IntRange(0, 2).Draw(rt, "retain") == 0 {
		m.Retain = true
	}
	m.ConflateKey = rapid.SampledFrom([]string{"", "k"}).Draw(rt, "conflate key")
	switch rapid.IntRange(0, 9).Draw(rt, "ttl") {
	case 0:
		m.TTL, m.Data = 20*time.Millisecond, brief+m.Data
	case 1:
		m.TTL = time.Hour
	}
	if _, ok := m.Audience.Topic(); ok {
		if m.Final = rapid.IntRange(0, 8).Draw(rt, "final") == 0; m.Final {
			m.Data += last
		}
	}
	w.drawFurther(rt, &m)
	return m
}

// drawFurther draws further topics for a message to a topic, and a user who doesn't get
// the message.
func (w *world) drawFurther(rt *rapid.T, m *broker.Message) {
	name, ok := m.Audience.Topic()
	if ok && rapid.IntRange(0, 2).Draw(rt, "several") == 0 {
		m.SetTopics(append([]string{name}, rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a.b", "c", "d"}), 1, 3).Draw(rt, "topics")...))
	}
	if _, ok := m.Audience.User(); !ok && !m.Final && rapid.IntRange(0, 4).Draw(rt, "excludes") == 0 {
		m.ExcludeUser = rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "excluded")
	}
}

func (w *world) submit(rt *rapid.T, s *submitted) {
	for _, a := range s.audiences() {
		if s.Retain || w.retains(s.node, a) {
			s.retainedFor = append(s.retainedFor, a)
		}
	}
	var err error
	if s.wait, err = w.members[s.node].Submit(w.t.Context(), s.Message); err != nil {
		rt.Fatalf("node %d: submit: %v", s.node, err)
	}
	w.sent = append(w.sent, s)
}

func (w *world) settle(rt *rapid.T) {
	for _, s := range w.sent {
		s.settle(rt, w)
	}
	for _, r := range w.readers {
		w.read(rt, r)
	}
}

// clear clears retained values on one node.
func (w *world) clear(rt *rapid.T) {
	node := rapid.IntRange(0, len(w.members)-1).Draw(rt, "node")
	c := cleared{Clear: broker.Clear{Audience: rapid.SampledFrom(audiences()).Draw(rt, "audience")}}
	if rapid.Bool().Draw(rt, "one key") {
		key := rapid.SampledFrom([]string{"", "k"}).Draw(rt, "conflate key")
		c.ConflateKey = &key
	}
	c.after = sequence(w.members[node].position(w.t))
	if _, err := w.members[node].ClearRetained(w.t.Context(), c.Clear); err != nil {
		rt.Fatalf("node %d: clear: %v", node, err)
	}
	c.upTo = sequence(w.members[node].position(w.t))
	w.clears = append(w.clears, c)
}

// reload gives a node new policies for topics.
func (w *world) reload(rt *rapid.T) {
	var policies []broker.TopicPolicy
	for _, pattern := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a.*", "a.>", "c", ">"}), 0, 3).Draw(rt, "patterns") {
		p := broker.TopicPolicy{
			Pattern:      pattern,
			MaxEvents:    rapid.SampledFrom([]int{0, 1, 10}).Draw(rt, "topic events"),
			SlowConsumer: rapid.SampledFrom([]broker.SlowPolicy{"", broker.Disconnect, broker.Conflate}).Draw(rt, "topic policy"),
			Retain:       rapid.Bool().Draw(rt, "topic retain"),
		}
		if age := rapid.SampledFrom([]time.Duration{-1, 0, 30 * time.Millisecond, time.Hour}).Draw(rt, "topic age"); age >= 0 {
			p.MaxAge = &age
		}
		policies = append(policies, p)
	}
	w.configure(rapid.IntRange(0, len(w.members)-1).Draw(rt, "node"), policies)
}

func (w *world) connect(rt *rapid.T) {
	var r *reader
	if i := rapid.IntRange(0, max(len(w.readers), 4)).Draw(rt, "client"); i < len(w.readers) {
		if r = w.readers[i]; r.stream != nil {
			return
		}
	} else {
		r = &reader{name: fmt.Sprint(len(w.readers))}
		r.user = rapid.SampledFrom([]string{"", "alice", "bob"}).Draw(rt, "user")
		r.topics = rapid.SampledFrom([][]string{nil, {"a"}, {"a", "c"}, {"a.*"}, {">"}, {"a", "a.*", "a.b"}}).Draw(rt, "topics")
		w.readers = append(w.readers, r)
	}
	node := rapid.IntRange(0, len(w.members)-1).Draw(rt, "node")
	if rapid.Bool().Draw(rt, "settled") { // so that it is certain what the history holds
		for _, s := range w.sent {
			s.settle(rt, w)
		}
		await(w.t, w.latest(), w.members[node])
	}
	var s drawnStart
	if r.lastID == "" {
		s = w.drawStart(rt, node)
	}
	w.open(rt, r, node, s)
}

// drawStart draws where a new stream starts.
func (w *world) drawStart(rt *rapid.T, node int) (s drawnStart) {
	switch s.kind = rapid.SampledFrom([]startKind{fresh, fresh, since, since, all, rewind}).Draw(rt, "start"); s.kind {
	case since:
		w.take(rt, node)
		s.at = time.Now().Add(-24 * time.Hour)
		if log := w.logs[node]; len(log) > 0 && rapid.IntRange(0, 5).Draw(rt, "early") > 0 {
			s.at = log[rapid.IntRange(0, len(log)-1).Draw(rt, "since")].At
		}
		s.of = broker.SinceTime(s.at)
	case all:
		s.of = broker.SinceAll()
	case rewind:
		s.events = rapid.OneOf(rapid.IntRange(1, 10), rapid.IntRange(1, broker.MaxRewind)).Draw(rt, "rewind")
		s.of = broker.Rewind(s.events)
	case fresh:
	}
	return s
}

// connected returns a random client that has a stream, or nil.
func (w *world) connected(rt *rapid.T) *reader {
	all := slices.DeleteFunc(slices.Clone(w.readers), func(r *reader) bool { return r.stream == nil })
	if len(all) == 0 {
		return nil
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(rt, "client")]
}

// cut breaks a connection at a random byte that the client has not read yet.
func (w *world) cut(rt *rapid.T) {
	r := w.connected(rt)
	if r == nil {
		return
	}
	unread, _ := r.wire.next()
	w.decode(rt, r, unread[:rapid.IntRange(0, len(unread)).Draw(rt, "cut")])
	r.hangUp()
}

// hop reconnects a client to another node, with an id that the new node may not
// have yet.
func (w *world) hop(rt *rapid.T) {
	r := w.connected(rt)
	if r == nil {
		return
	}
	node := r.conn().node
	s := &submitted{node: node, Message: toAll(fmt.Sprint(len(w.sent)))}
	w.submit(rt, s)
	s.settle(rt, w)
	eventually(w.t, func() bool { w.read(rt, r); return r.stream == nil || sequence(r.lastID) >= sequence(s.receipt.ID) }, func() string {
		return fmt.Sprintf("%v doesn't receive %s", r, s.receipt.ID)
	})
	r.hangUp()
	w.open(rt, r, (node+rapid.IntRange(1, len(w.members)-1).Draw(rt, "further"))%len(w.members), drawnStart{})
}

// restart restarts or kills a node. Messages that the node hadn't acknowledged yet may or
// may not be in the event log.
func (w *world) restart(rt *rapid.T) {
	if rapid.IntRange(0, 9).Draw(rt, "now") > 0 {
		return
	}
	node := rapid.IntRange(0, len(w.members)-2).Draw(rt, "node") // the last node's history is too short to continue the tap
	for _, s := range w.sent {
		s.unsure = s.unsure || s.node == node && s.wait != nil
	}
	w.take(rt, node)
	w.taps[node].Close()
	if m := w.members[node]; rapid.Bool().Draw(rt, "kill") {
		m.kill(w.t)
	} else {
		m.end(w.t)
	}
	w.members[node] = startOn(w.t, w.members[node].cfg, worldConfig(node, len(w.members)))
	w.policies[node], w.restarted[node] = nil, true
	serving(w.t, w.members[node])
	var err error
	if w.taps[node], err = w.members[node].broker.Tap(broker.Audience{}, w.at[node]); err != nil {
		rt.Fatal(err)
	}
	w.settle(rt)
	await(w.t, w.latest(), w.members[node])
	end := w.members[node].position(w.t)
	for w.take(rt, node); sequence(w.at[node]) < sequence(end); { // before new policies evict events
		w.take(rt, node)
	}
}
