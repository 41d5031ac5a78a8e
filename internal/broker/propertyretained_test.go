package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// valueKey identifies a retained value from the publisher's point of view.
type valueKey struct{ audience, conflateKey string }

// drawRetained draws whether a message is retained, and whether it ends its topic.
func (w *world) drawRetained(rt *rapid.T, m *broker.Message, p *published) {
	if p.retain = rapid.IntRange(0, 2).Draw(rt, "retain") == 0; p.retain {
		m.Retain, m.ConflateKey = true, rapid.SampledFrom([]string{"", "k"}).Draw(rt, "conflate key")
		p.key = m.ConflateKey
	}
	if strings.HasPrefix(p.audience, "topic:") && rapid.IntRange(0, 8).Draw(rt, "final") == 0 {
		m.Final, p.final = true, true
	}
}

// drawFurther draws further topics for a message to a topic, and a user who doesn't get
// the message.
func drawFurther(rt *rapid.T, m *broker.Message, p *published) {
	if strings.HasPrefix(p.audience, "topic:") && rapid.IntRange(0, 2).Draw(rt, "several") == 0 {
		topics := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a.b", "c", "d"}), 1, 3).Draw(rt, "topics")
		name, _ := m.Audience.Topic()
		m.SetTopics(append([]string{name}, topics...))
		p.topics = m.Topics
	}
	if _, ok := m.Audience.User(); !ok && !m.Final && rapid.IntRange(0, 4).Draw(rt, "excludes") == 0 {
		m.ExcludeUser = rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "excluded")
		p.exclude = m.ExcludeUser
	}
}

// audiences returns all audiences of p.
func (p published) audiences() []string {
	all := []string{p.audience}
	for _, name := range p.topics {
		all = append(all, "topic:"+name)
	}
	return all
}

// retained updates the model after p has been published.
func (w *world) retained(p published) {
	for _, to := range p.audiences() {
		if p.retain {
			w.values[valueKey{to, p.key}] = p
		}
		if topic, ok := strings.CutPrefix(to, "topic:"); ok {
			w.ended[topic] = 0
			if p.final {
				w.ended[topic] = p.seq
			}
		}
	}
}

// clear removes retained values.
func (w *world) clear(rt *rapid.T) {
	name := rapid.SampledFrom([]string{"", "user:alice", "topic:a", "topic:a.b"}).Draw(rt, "audience")
	c := broker.Clear{Audience: audience(name)}
	if c.All = rapid.IntRange(0, 4).Draw(rt, "all") == 0; c.All {
		c.Audience = broker.Audience{}
	} else if rapid.Bool().Draw(rt, "one key") {
		key := rapid.SampledFrom([]string{"", "k"}).Draw(rt, "conflate key")
		c.ConflateKey = &key
	}
	want := 0
	for k, p := range w.values {
		if !c.All && k.audience != name || c.ConflateKey != nil && *c.ConflateKey != k.conflateKey {
			continue
		}
		delete(w.values, k)
		if !p.expired() {
			want++
		}
	}
	if cleared, err := w.broker.ClearRetained(rt.Context(), c); err != nil || cleared != want {
		rt.Fatalf("cleared %d values of %q: %v; want %d", cleared, name, err, want)
	}
}

// audience returns the audience with the given name in the model.
func audience(name string) broker.Audience {
	kind, id, _ := strings.Cut(name, ":")
	switch kind {
	case "user":
		return broker.ToUser(id)
	case "topic":
		return broker.ToTopic(id)
	}
	return broker.Everyone()
}

func (p published) expired() bool { return !p.expires.IsZero() && !p.expires.After(time.Now()) }

// startValues expects retained values at the start of a stream: they precede its first
// position mark.
func (r *reader) startValues() { r.inValues, r.values = true, nil }

// onValue checks a retained value.
func (r *reader) onValue(p published) {
	switch n := len(r.values); {
	case !p.retain || !r.entitled(p):
		r.failure = fmt.Sprintf("event %d came before the position mark", p.seq)
	case n > 0 && r.values[n-1] >= p.seq:
		r.failure = fmt.Sprintf("value %d came after %v", p.seq, r.values)
	}
	r.values = append(r.values, p.seq)
}

// onMark checks that the stream has received all values that were published up to the
// mark and haven't been removed since.
func (r *reader) onMark(at uint64) {
	if !r.inValues {
		return
	}
	r.inValues = false
	r.pos = max(r.pos, at)
	if r.gap {
		return // a reset reported that some were dropped
	}
	for key, p := range r.world.values {
		if p.seq <= at && r.entitledBy(p, key.audience) && !p.expired() && !slices.Contains(r.values, p.seq) {
			r.failure = fmt.Sprintf("the mark %d arrived without the value %d", at, p.seq)
		}
	}
}

// onReset handles a reset. Without an id of its own, retained values follow it, and then
// a position mark.
func (r *reader) onReset(at uint64, overflow, hasID bool) {
	switch {
	case !overflow:
		r.pos = max(r.pos, at)
		if r.inValues = !hasID; r.inValues {
			r.startValues()
		}
	case r.world.mixed:
		r.gap, r.lossy = true, r.world.sent[len(r.world.sent)-1].seq
	default:
		r.gap = true
	}
}

// onEnd checks the end of a topic.
func (r *reader) onEnd(e eventstream.Event) {
	for _, p := range r.world.sent {
		for _, to := range p.audiences() {
			topic, _ := strings.CutPrefix(to, "topic:")
			if p.final && string(e.Data) == fmt.Sprintf(`{"topic":%q}`, topic) && r.entitledBy(p, to) {
				return
			}
		}
	}
	r.failure = fmt.Sprintf("got peald.end with %s", e.Data)
}

// done reports whether the server would ask the client to stop, and checks that it has
// received everything for its topic.
func (r *reader) done(rt *rapid.T) bool {
	if !r.world.broker.NothingFollows(r.topics, r.lastID) {
		return false
	}
	if final := r.world.ended[r.topics[0]]; final == 0 || final > sequence(r.lastID) {
		rt.Fatalf("client %s may stop after %s, but the topics %q ended at %d", r.name, r.lastID, r.topics, final)
	}
	return true
}
