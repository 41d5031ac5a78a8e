package cluster_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// shortHistory is the number of events that the last node of the cluster keeps, so
// that some clients reconnect too late to resume.
const shortHistory = 30

// TestClusterProperties runs random interleavings of publishes, connects, cuts at any
// byte and resumes on the nodes of a cluster. It checks that all nodes have the same
// events: each acknowledged message once, in its publisher's order. It also checks
// that each client received exactly its own events since its position, or a reset
// where there is a gap. Other messages are retained, cleared and end their topics; all
// nodes must have the same values, and start streams in the same way. If SOAK_CLUSTER is set to a duration, the test runs for
// that long, and also restarts nodes.
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
		brokerCfg := brokerConfig()
		if i == 2 {
			brokerCfg.History.MaxEvents = shortHistory
		}
		members = append(members, startOn(t, cfg, brokerCfg))
	}

	serving(t, members...)
	runs, ends := 0, time.Now().Add(duration)
	for time.Now().Before(ends) && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			if time.Now().After(ends) {
				return
			}
			runs++
			w := newWorld(t, rt, members, runs)
			defer w.end()
			steps := map[string]func(*rapid.T){
				"publish": w.publish,
				"connect": w.connect,
				"cut":     w.cut,
				"hop":     w.hop,
				"settle":  w.settle,
				"retain":  w.retain,
				"clear":   w.clear,
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
			w.checkValues(rt)
			w.checkStarts(rt)
		})
	}

	t.Logf("%d interleavings", runs)
}

func (w *world) publish(rt *rapid.T) {
	s := &submitted{node: rapid.IntRange(0, len(w.members)-1).Draw(rt, "node")}
	switch repeats := rapid.IntRange(0, 9).Draw(rt, "repeats"); {
	case repeats < 2 && len(w.sent) > 0:
		s.Message = w.sent[rapid.IntRange(0, len(w.sent)-1).Draw(rt, "which")].Message
		if repeats == 0 && s.IdempotencyKey != "" {
			s.Data = fmt.Sprint("another ", len(w.sent))
		}
	default:
		s.Data = fmt.Sprint(len(w.sent))
		if rapid.Bool().Draw(rt, "key") {
			s.IdempotencyKey = fmt.Sprint(w.number, "-", len(w.sent))
		}
		switch kind, name, _ := strings.Cut(rapid.SampledFrom([]string{"", "user:alice", "user:bob", "topic:a", "topic:a.b", "topic:c"}).Draw(rt, "audience"), ":"); kind {
		case "user":
			s.Audience = broker.ToUser(name)
		case "topic":
			s.Audience = broker.ToTopic(name)
		default:
			s.Audience = broker.Everyone()
		}
	}

	w.submit(rt, s)
	if rapid.Bool().Draw(rt, "wait") {
		s.settle(rt, w)
	}
}

func (w *world) submit(rt *rapid.T, s *submitted) {
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
	for _, f := range w.readers {
		f.read()
	}
}

func (w *world) connect(rt *rapid.T) {
	var f *reader
	if i := rapid.IntRange(0, max(len(w.readers), 4)).Draw(rt, "client"); i < len(w.readers) {
		if f = w.readers[i]; f.stream != nil {
			return
		}
	} else {
		f = &reader{follower: follower{name: fmt.Sprint(len(w.readers))}}
		f.user = rapid.SampledFrom([]string{"", "alice", "bob"}).Draw(rt, "user")
		f.topics = rapid.SampledFrom([][]string{nil, {"a"}, {"a", "c"}, {"a.*"}, {"a.>"}, {"a", "a.*", "a.b"}}).Draw(rt, "topics")
		w.readers = append(w.readers, f)
	}
	w.open(rt, f, rapid.IntRange(0, len(w.members)-1).Draw(rt, "node"))
}

// open opens a client's stream on a node.
func (w *world) open(rt *rapid.T, c *reader, node int) {
	if c.lastID == "" {
		c.before = len(w.sent)
	}
	if err := c.open(w.t.Context(), w.members[node], node); err != nil {
		rt.Fatalf("node %d: start a stream: %v", node, err)
	}
}

// connected returns a random client that has a stream, or nil.
func (w *world) connected(rt *rapid.T) *reader {
	all := slices.DeleteFunc(slices.Clone(w.readers), func(f *reader) bool { return f.stream == nil })
	if len(all) == 0 {
		return nil
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(rt, "client")]
}

// cut breaks a connection at a random byte that the client has not read yet.
func (w *world) cut(rt *rapid.T) {
	f := w.connected(rt)
	if f == nil {
		return
	}
	unread, _ := f.wire.next()
	f.decode(unread[:rapid.IntRange(0, len(unread)).Draw(rt, "cut")])
	f.hangUp()
}

// hop reconnects a client to another node, with an id that the new node may not
// have yet.
func (w *world) hop(rt *rapid.T) {
	f := w.connected(rt)
	if f == nil {
		return
	}
	s := &submitted{node: f.node, Message: toAll(fmt.Sprint(len(w.sent)))}
	w.submit(rt, s)
	s.settle(rt, w)
	if f.read(); f.stream == nil {
		return
	}
	eventually(w.t, func() bool { f.read(); return sequence(f.lastID) >= sequence(s.receipt.ID) }, func() string {
		return "client " + f.name + " doesn't receive " + s.receipt.ID
	})
	f.hangUp()
	w.open(rt, f, (f.node+rapid.IntRange(1, len(w.members)-1).Draw(rt, "further"))%len(w.members))
}

// restart restarts a node. Messages that the node hadn't acknowledged yet may or
// may not be in the event log.
func (w *world) restart(rt *rapid.T) {
	if rapid.IntRange(0, 9).Draw(rt, "now") > 0 {
		return
	}
	node := rapid.IntRange(0, 1).Draw(rt, "node") // the last node's history is too short to continue the tap
	for _, s := range w.sent {
		s.unsure = s.unsure || s.node == node && s.wait != nil
	}
	w.taps[node].Close()
	w.members[node].end(w.t)
	w.members[node] = startOn(w.t, w.members[node].cfg, brokerConfig())
	serving(w.t, w.members[node])
	var err error
	if w.taps[node], err = w.members[node].broker.Tap(broker.Audience{}, w.at[node]); err != nil {
		rt.Fatal(err)
	}
}
