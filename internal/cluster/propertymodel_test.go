package cluster_test

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// candidates are the events one of which may be the retained value of a key at some
// position.
type candidates struct {
	seqs []uint64
	must bool // the first of them must be the value
}

// valueKey identifies a retained value.
type valueKey struct {
	audience    broker.Audience
	conflateKey string
}

// valuesAt returns the candidates for all retained values after the events up to a
// position.
func (w *world) valuesAt(upTo uint64) map[valueKey]candidates {
	values := make(map[valueKey]candidates)
	for _, m := range w.log {
		seq := sequence(m.ID)
		if seq > upTo {
			break
		}
		sources := w.source[m.ID]
		for _, a := range audiencesOf(m) {
			isRetained := func(s *submitted) bool { return slices.Contains(s.retainedFor, a) }
			if !slices.ContainsFunc(sources, isRetained) {
				continue
			}
			key, v := valueKey{a, sources[0].ConflateKey}, candidates{[]uint64{seq}, true}
			if slices.ContainsFunc(sources, func(s *submitted) bool { return !isRetained(s) }) {
				v = candidates{append(v.seqs, values[key].seqs...), false} // it is unknown which of them came first
			}
			values[key] = v
		}
	}

	for key, v := range values {
		v.must = v.must && !isBrief(w.source[w.id(v.seqs[0])][0].Data)
		v.seqs = slices.DeleteFunc(v.seqs, func(seq uint64) bool { return w.wasCleared(key, seq, upTo, &v.must) })
		if values[key] = v; len(v.seqs) == 0 {
			delete(values, key)
		}
	}
	return values
}

// wasCleared reports whether the value of a key was cleared up to a position. It makes
// must false if that isn't certain.
func (w *world) wasCleared(key valueKey, seq, upTo uint64, must *bool) bool {
	for _, c := range w.clears {
		switch {
		case c.Audience != key.audience || c.ConflateKey != nil && *c.ConflateKey != key.conflateKey || c.upTo < seq || c.after >= upTo:
		case c.after >= seq && c.upTo <= upTo:
			return true
		default:
			*must = false
		}
	}
	return false
}

// id returns the id of an event.
func (w *world) id(seq uint64) string {
	epoch, _, _ := strings.Cut(w.at[0], "-")
	return fmt.Sprint(epoch, "-", seq)
}

func toTopics(names []string) (all []broker.Audience) {
	for _, name := range names {
		all = append(all, broker.ToTopic(name))
	}
	return all
}

func isBrief(data string) bool { return strings.Contains(data, brief) }

func isFinal(m broker.Tapped) bool { return strings.HasSuffix(m.Data, last) }

// checkState checks the retained values of a node at the end.
func (w *world) checkState(rt *rapid.T) {
	want := w.valuesAt(1 << 63)
	state, _ := w.members[0].broker.RetainedState()
	for v := range state.Values() {
		for _, a := range append([]broker.Audience{v.Audience}, toTopics(v.Topics)...) {
			key := valueKey{a, v.ConflateKey}
			if !slices.Contains(want[key].seqs, sequence(v.ID)) {
				rt.Fatalf("%s is the retained value of %v, want one of %v", v.ID, key, want[key].seqs)
			}
			delete(want, key)
		}
	}
	for key, v := range want {
		if v.must {
			rt.Fatalf("%v has no retained value, want %d", key, v.seqs[0])
		}
	}
}

// checkReader checks that a client has received its events and values.
func (w *world) checkReader(rt *rapid.T, r *reader) {
	for i, c := range r.conns {
		k := &checker{w: w, r: r, c: c, pos: c.from, inValues: c.from == 0, exact: c.start.kind == fresh}
		k.prepare()
		for at := range c.blocks {
			k.check(at)
			if k.failure != "" {
				rt.Fatalf("%s, connection %d to node %d (start %+v, after %d): block %d: %s\nbefore: %s\nlog: %s", r, i, c.node, c.start, c.from, at, k.failure,
					describe(c.blocks[:at+1]), describeLog(w, r))
			}
		}
		if k.checkStart(); k.failure != "" {
			rt.Fatalf("%s, connection %d to node %d (start %+v, after %d): %s\nblocks: %s\nlog: %s", r, i, c.node, c.start, c.from, k.failure, describe(c.blocks), describeLog(w, r))
		}
	}
	for _, s := range r.stops {
		var latest broker.Tapped
		for _, m := range w.log {
			if seq := sequence(m.ID); slices.Contains(audiencesOf(m), broker.ToTopic(r.topics[0])) && (seq <= s.before || seq <= s.lastID) {
				latest = m
			}
		}
		if !isFinal(latest) || sequence(latest.ID) > s.lastID {
			rt.Fatalf("%s was asked to stop (%+v), after %+v", r, s, latest)
		}
	}
}

func describe(blocks []block) string {
	var all []string
	for _, b := range blocks[max(0, len(blocks)-20):] {
		all = append(all, fmt.Sprint(b.kind, " ", b.id, " ", b.data))
	}
	return strings.Join(all, ", ")
}

func describeLog(w *world, r *reader) string {
	var all []string
	for _, m := range w.log {
		if r.wantsAny(m) {
			s := w.source[m.ID][0]
			all = append(all, fmt.Sprintf("%d %v %q retained=%v final=%v without %q", sequence(m.ID), audiencesOf(m), m.Data, s.retainedFor, s.Final, m.ExcludeUser))
		}
	}
	return strings.Join(all, ", ")
}
