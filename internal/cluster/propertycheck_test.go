package cluster_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peald/peald/internal/broker"
)

// checker checks what a client received on one connection, after all events are known.
type checker struct {
	w *world
	r *reader
	c *connection

	pos      uint64   // the client has received everything up to here
	inValues bool     // the position mark hasn't been received
	values   []uint64 // the retained values before the position mark
	exact    bool     // the values are those at the position mark
	mark     uint64   // the first position mark, or the id of the reset in its place
	restarts int      // how often a reset made the stream start again
	received []uint64 // all events
	required []uint64 // the events that the client must get unless it gets a reset
	failure  string
}

func (k *checker) failf(format string, args ...any) {
	if k.failure == "" {
		k.failure = fmt.Sprintf(format, args...)
	}
}

// startsInPast reports whether the stream starts from a point in the history other than
// the client's position.
func (k *checker) startsInPast() bool { return k.c.start.kind != fresh }

// prepare sets the events that the client must get. A stream that starts in the past gets
// only what the history holds, and the retained values.
func (k *checker) prepare() {
	c, after := k.c, uint64(0)
	if k.startsInPast() {
		after = c.after.at
		for _, m := range c.after.events {
			k.require(m)
		}
		if c.isStable() {
			for key, v := range k.w.valuesAt(after) {
				if v.must && k.getsValue(key, v) {
					k.required = append(k.required, v.seqs[0])
				}
			}
		}
	}
	for _, m := range k.w.log {
		if sequence(m.ID) > after {
			k.require(m)
		}
	}
	slices.Sort(k.required)
	k.required = slices.Compact(k.required)
}

// getsValue reports whether the client gets the first candidate for the value of a key.
func (k *checker) getsValue(key valueKey, v candidates) bool {
	excluded := k.w.source[k.w.id(v.seqs[0])][0].ExcludeUser
	return k.r.wants(key.audience) && (excluded == "" || excluded != k.r.user)
}

func (k *checker) require(m broker.Tapped) {
	if k.r.gets(m) && !isBrief(m.Data) {
		k.required = append(k.required, sequence(m.ID))
	}
}

// complete checks that all events up to a position have been received.
func (k *checker) complete(upTo uint64) {
	from, _ := slices.BinarySearch(k.required, k.pos+1)
	if missing := k.required[from:]; len(missing) > 0 && missing[0] <= upTo {
		k.failf("%d is missing after %d", missing[0], k.pos)
	}
}

// find returns an event that the client has received.
func (k *checker) find(seq uint64) (broker.Tapped, bool) {
	known := [][]broker.Tapped{k.w.log}
	for _, c := range k.r.conns { // which may have started before the world
		known = append(known, c.before.events, c.after.events)
	}
	for _, events := range known {
		i, found := slices.BinarySearchFunc(events, seq, func(m broker.Tapped, want uint64) int { return int(sequence(m.ID)) - int(want) })
		if found {
			return events[i], true
		}
	}
	return broker.Tapped{}, false
}

// check checks the next block.
func (k *checker) check(at int) {
	b := k.c.blocks[at]
	seq := sequence(b.id)
	switch {
	case b.kind == "reset":
		k.onReset(at, b)
	case b.kind == "end":
		k.onEnd(at, b)
	case b.kind == "mark":
		k.onMark(seq)
	case k.inValues:
		k.onValue(seq, b.data)
	default:
		k.onEvent(at, seq, b.data)
	}
}

func (k *checker) onEvent(at int, seq uint64, data string) {
	m, ok := k.find(seq)
	switch {
	case seq <= k.w.begin && (!ok || len(m.Topics) > 0 && m.Data == data): // from an earlier world, perhaps with some of its topics
	case !ok || m.Data != data || !k.r.gets(m):
		k.failf("event %d, %q, isn't one for the client", seq, data)
	}
	if seq <= k.pos {
		k.failf("event %d is a duplicate or out of order after %d", seq, k.pos)
	}
	k.complete(seq - 1)
	k.pos = seq
	k.received = append(k.received, seq)

	// A replay doesn't end a stream that has only this topic if it goes on.
	mustEnd := isFinal(m) && (!k.r.isAlone() || seq > k.c.after.at && slices.Contains(audiencesOf(m), broker.ToTopic(k.r.topics[0])))
	if mustEnd && at+1 < len(k.c.blocks) && k.c.blocks[at+1].kind != "end" {
		k.failf("event %d is final, but %+v follows", seq, k.c.blocks[at+1])
	}
}

func (k *checker) onValue(seq uint64, data string) {
	m, ok := k.find(seq)
	switch {
	case !ok || m.Data != data || !k.r.gets(m):
		k.failf("value %d, %q, isn't one for the client", seq, data)
	case !slices.ContainsFunc(k.w.source[m.ID], func(s *submitted) bool { return slices.ContainsFunc(s.retainedFor, k.r.wants) }):
		k.failf("event %d isn't retained, and came before the position mark", seq)
	case len(k.values) > 0 && seq <= k.values[len(k.values)-1]:
		k.failf("value %d came after %v", seq, k.values)
	}
	k.values = append(k.values, seq)
	k.w.counts.Values++
}

func (k *checker) onMark(seq uint64) {
	if !k.inValues {
		k.complete(seq)
		k.pos = max(k.pos, seq)
		return
	}
	k.begin(seq)
}

// begin ends the values at the position that the stream starts from.
func (k *checker) begin(seq uint64) {
	k.inValues, k.pos = false, seq
	if k.restarts == 0 {
		k.mark = seq
	}
	upTo := seq
	if !k.exact {
		if upTo = k.c.after.at; !k.c.isStable() {
			return
		}
	}
	var known []uint64
	for key, v := range k.w.valuesAt(upTo) {
		if v.must && v.seqs[0] <= seq && k.getsValue(key, v) && !slices.Contains(k.values, v.seqs[0]) {
			k.failf("the mark %d came without the value %d, after %v", seq, v.seqs[0], k.values)
		}
		if k.r.wants(key.audience) {
			known = append(known, v.seqs...)
		}
	}
	k.values = slices.DeleteFunc(k.values, func(got uint64) bool { return slices.Contains(known, got) })
	if len(k.values) > 0 && (k.values[0] > seq || upTo == seq || k.c.isStable()) {
		k.failf("%v weren't retained at %d", k.values, upTo)
	}
}

// onReset handles a reset. Without an id of its own, retained values follow it, and then
// a position mark.
func (k *checker) onReset(at int, b block) {
	k.w.counts.Resets++
	opening := at == 0 && k.startsInPast()
	if !strings.Contains(b.data, `"expired"`) || len(k.values) > 0 && k.inValues || at == 0 && k.c.from == 0 && !opening {
		k.failf("unexpected reset %s", b.data)
	}
	if !opening {
		if !k.lost(b.held) {
			k.failf("needless reset %s after %d", b.data, k.pos)
		}
		k.restarts, k.exact = k.restarts+1, true
	}
	k.inValues, k.values = true, nil
	if b.hasID {
		k.begin(sequence(b.id))
	}
}

// lost reports whether the history lacked an event after the client's position.
func (k *checker) lost(held snapshot) bool {
	return k.pos < k.w.begin || slices.ContainsFunc(k.w.log, func(m broker.Tapped) bool {
		seq := sequence(m.ID)
		return seq > k.pos && seq <= held.at && k.r.wantsAny(m) && !held.holds(m, k.r.wants)
	})
}

// onEnd checks the end of a topic. It follows the final event, or the start of a stream
// that doesn't get that event.
func (k *checker) onEnd(at int, b block) {
	k.w.counts.Ends++
	isNamed := func(topic string) bool { return b.data == fmt.Sprintf(`{"topic":%q}`, topic) }
	isFor := func(m broker.Tapped) bool {
		return slices.ContainsFunc(audiencesOf(m), func(a broker.Audience) bool {
			topic, ok := a.Topic()
			return ok && isNamed(topic) && k.r.wants(a)
		})
	}
	ends := func(m broker.Tapped) bool { return isFor(m) && isFinal(m) }
	if !k.r.isAlone() {
		before := at - 1
		for before > 0 && k.c.blocks[before].kind == "end" { // of another topic of the same message
			before--
		}
		if m, ok := k.find(k.pos); before >= 0 && k.c.blocks[before].kind == "" && (ends(m) || k.pos <= k.w.begin && (!ok || len(m.Topics) > 0)) {
			return
		}
		if len(k.received) > 0 || k.c.from > 0 && k.restarts == 0 {
			k.failf("peald.end %s doesn't follow a final event", b.data)
		}
	} else if k.complete(sequence(b.id)); at+1 < len(k.c.blocks) {
		k.failf("%d blocks follow peald.end %s", len(k.c.blocks)-at-1, b.data)
	}

	ended := false
	for _, m := range k.w.log {
		seq := sequence(m.ID)
		if seq > max(k.pos, k.c.after.at) {
			break
		}
		if isFor(m) && slices.ContainsFunc(k.r.topics, isNamed) {
			ended = ends(m) && (seq <= k.pos || k.startsInPast() || isBrief(m.Data)) || ended && seq > k.pos
		}
	}
	if !ended {
		k.failf("unexpected peald.end %s after %d", b.data, k.pos)
	}
}

// checkStart checks where the stream started.
func (k *checker) checkStart() {
	c := k.c
	if len(c.blocks) == 0 || k.inValues {
		return
	}
	if c.from == 0 && !k.startsInPast() {
		for _, s := range k.w.sent[c.sent:] {
			if s.err == nil && s.IdempotencyKey == "" && sequence(s.receipt.ID) <= k.mark {
				k.failf("%q was published as %s after the stream had started at %d", s.Data, s.receipt.ID, k.mark)
			}
		}
	}
	if !k.startsInPast() || !c.isStable() {
		return
	}

	k.w.counts.Exact++
	reset := c.blocks[0].kind == "reset"
	var held []broker.Tapped // for the client
	for _, m := range c.after.events {
		if k.r.gets(m) {
			held = append(held, m)
		}
	}
	replayed := slices.DeleteFunc(slices.Clone(held), func(m broker.Tapped) bool { return sequence(m.ID) <= k.mark })
	switch c.start.kind {
	case fresh:
	case all:
		if reset || len(replayed) < len(held) {
			k.failf("the stream starts at %d, after an event in the history", k.mark)
		}
	case rewind:
		if reset || len(replayed) != min(len(held), c.start.events) {
			k.failf("the stream starts at %d, before %d events, want %d of %d", k.mark, len(replayed), c.start.events, len(held))
		}
	case since:
		k.checkSince(held, reset)
	}
}

// checkSince checks where a stream started that starts from a time.
func (k *checker) checkSince(held []broker.Tapped, reset bool) {
	c, must, may := k.c, false, false
	for _, m := range held {
		if seq := sequence(m.ID); m.At.Before(c.start.at) != (seq <= k.mark) {
			k.failf("the stream starts at %d, on the wrong side of %d", k.mark, seq)
		}
	}
	early := true
	for _, m := range k.w.log {
		seq := sequence(m.ID)
		if early = early && !m.At.Equal(c.start.at); m.At.Before(c.start.at) || seq > c.after.at || c.after.holds(m, func(broker.Audience) bool { return true }) {
			continue
		}
		may = true
		must = must || k.r.gets(m) && !c.after.holdsAny(m, k.r) && !isBrief(m.Data)
	}
	if must = must || early; must && !reset || reset && !must && !may {
		k.failf("the stream starts with a reset: %v", reset)
	}
}
