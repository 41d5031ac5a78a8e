package broker

import (
	"container/heap"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestHistoryAgainstAModel appends random events to a history, and compares it with a
// list of all events.
func TestHistoryAgainstAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &historyModel{t: rt, h: newHistory(History{
			MaxEvents: rapid.SampledFrom([]int{1, 3, 20, 200}).Draw(rt, "events"),
			MaxBytes:  rapid.SampledFrom([]int{3_000, 20_000, 1 << 20}).Draw(rt, "bytes"),
			MaxAge:    rapid.SampledFrom([]time.Duration{0, 50, 500}).Draw(rt, "age"),
		}, drawHistoryPolicies(rt), newDigester(), 0)}
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"burst": func(rt *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(rt, "n") {
					m.append(rt)
				}
			},
			"wait": func(rt *rapid.T) {
				m.now += int64(rapid.IntRange(1, 100).Draw(rt, "time"))
				m.h.evict(m.now)
				m.observe(nil, 0)
			},
			"limits": func(rt *rapid.T) {
				m.h.limits.MaxEvents = rapid.SampledFrom([]int{0, 2, 10, 100}).Draw(rt, "events")
				m.h.evict(m.now)
				m.observe(nil, 0)
			},
			"policies": func(rt *rapid.T) {
				m.h.reconfigure(m.h.limits, drawHistoryPolicies(rt), m.now)
				m.observe(nil, 0)
			},
			"": func(*rapid.T) { m.check() },
		})
	})
}

func drawHistoryPolicies(rt *rapid.T) policies {
	var configured []TopicPolicy
	for _, pattern := range rapid.SliceOfN(rapid.SampledFrom([]string{"t.0", "t.1", "t.*", "t.30"}), 0, 3).Draw(rt, "patterns") {
		p := TopicPolicy{Pattern: pattern, MaxEvents: rapid.SampledFrom([]int{0, 1, 5}).Draw(rt, "topic events")}
		if age := rapid.SampledFrom([]time.Duration{-1, 0, 10, 1000}).Draw(rt, "topic age"); age >= 0 {
			p.MaxAge = &age
		}
		configured = append(configured, p)
	}
	return newPolicies(configured)
}

type historyModel struct {
	t    *rapid.T
	h    history
	now  int64
	seq  uint64
	held []*event
	lost []eviction
	seen uint64 // the number of evictions before those that weren't observed yet
}

// eviction is an evicted event, and a number of evictions before it was evicted.
type eviction struct {
	*event

	before uint64
}

func (m *historyModel) append(rt *rapid.T) {
	m.now++
	m.seq += uint64(rapid.IntRange(1, 2).Draw(rt, "step")) // a replica's log skips some
	// Few audiences have most events.
	a := rapid.OneOf(rapid.IntRange(0, 2), rapid.IntRange(0, 60)).Draw(rt, "audience")
	message := Message{Audience: ToTopic(fmt.Sprint("t.", a))}
	if rapid.IntRange(0, 4).Draw(rt, "several") == 0 {
		for range rapid.IntRange(1, 3).Draw(rt, "topics") {
			message.Topics = append(message.Topics, fmt.Sprint("t.", 100*len(message.Topics)+a+1))
		}
	}
	message.ExcludeUser = rapid.SampledFrom([]string{"", "", "alice"}).Draw(rt, "excluded")
	e := newEvent(&message, 0)
	e.seq, e.at = m.seq, m.now
	e.frame.chunk = make([]byte, rapid.SampledFrom([]int{1, 50, 1000}).Draw(rt, "size"))
	if rapid.IntRange(0, 9).Draw(rt, "ttl") == 0 {
		e.expires = m.now + int64(rapid.IntRange(1, 60).Draw(rt, "expires"))
	}
	all := []*event{e}
	if s := e.siblings(); s != nil {
		s.place()
		s.share()
		all = s.events
	}
	if m.h.limits.MaxEvents == 0 {
		m.h.append(e)
		for _, e := range all {
			m.lost = append(m.lost, eviction{e, m.seen})
		}
		m.seen = m.h.evictions
		return
	}

	// How much each audience holds before the limits apply.
	full := make(map[Audience]int)
	for _, held := range append(slices.Clone(m.held), all...) {
		full[held.audience]++
	}
	m.held = append(m.held, all...)
	m.h.append(e)
	m.observe(full, len(all))
}

// observe moves the events that have left the history. If only the number of events is
// limited, they must come from the audiences that held most, before or after they gave up
// other events because of the ones that were added.
func (m *historyModel) observe(full map[Audience]int, added int) {
	var left []*event
	m.held = slices.DeleteFunc(m.held, func(e *event) bool {
		if m.h.all.find(e) != nil {
			return false
		}
		left = append(left, e)
		return true
	})
	for _, e := range left {
		if e.expires != 0 && e.expires <= m.now {
			continue
		}
		m.lost = append(m.lost, eviction{e, m.seen})
		policy := m.h.policies.find(e.audience)
		age := m.h.limits.MaxAge
		if policy != nil && policy.MaxAge != nil {
			age = *policy.MaxAge
		}
		old := age != 0 && m.now-e.at >= int64(age) || policy != nil && policy.MaxEvents != 0
		if most := slices.Max(append(values(full), 0)); full != nil && !old && m.h.limits.MaxBytes == 1<<20 && full[e.audience] < (most-added+1)*31/32 {
			m.t.Fatalf("%v of %v gave up an event, but another audience held %d", full[e.audience], e.audience, most)
		}
	}
	m.seen = m.h.evictions
}

func values(m map[Audience]int) (all []int) {
	for _, n := range m {
		all = append(all, n)
	}
	return all
}

func (m *historyModel) check() {
	h := &m.h
	bytes, events := 0, 0
	for a, l := range h.lanes {
		laneBytes := 0
		if p := h.policies.find(a); p != l.policy || p != nil && p.MaxEvents != 0 && l.len() > p.MaxEvents {
			m.t.Fatalf("the lane of %v has %d events, and the policy %v instead of %v", a, l.len(), l.policy, p)
		}
		for i, e := range l.all() {
			laneBytes += m.bytes(e)
			age := h.limits.MaxAge
			if l.policy != nil && l.policy.MaxAge != nil {
				age = *l.policy.MaxAge
			}
			if age != 0 && m.now-e.at >= int64(age) || e.expires != 0 && e.expires <= m.now {
				m.t.Fatalf("event %d for %v is still held at the age of %d", e.seq, a, m.now-e.at)
			}
			if e.audience != a || h.all.find(e) == nil || i > 0 && l.at(i-1).seq >= e.seq {
				m.t.Fatalf("wrong event %d in the lane of %v", e.seq, a)
			}
		}
		for by := range h.ranks {
			if want := class([]int{l.len(), l.bytes}[by]); l.places[by].class != want {
				m.t.Fatalf("the lane of %v is in class %d, want %d", a, l.places[by].class, want)
			}
		}
		if l.bytes != laneBytes {
			m.t.Fatalf("the lane of %v counts %d bytes, want %d", a, l.bytes, laneBytes)
		}
		bytes += laneBytes + l.cost()
		events += l.len()
	}
	if events != len(m.held) || h.all.events != events || h.bytes != bytes {
		m.t.Fatalf("%d events in lanes, %d and %d bytes counted; want %d and %d", events, h.all.events, h.bytes, len(m.held), bytes)
	}
	if events > h.limits.MaxEvents || bytes > h.limits.MaxBytes && events > 0 {
		m.t.Fatalf("%d events, %d bytes", events, bytes)
	}
	if n := h.all.len(); n > 2*(events+len(h.lanes))+64 {
		m.t.Fatalf("%d slots for %d events and %d lanes", n, events, len(h.lanes))
	}
	x := slices.Clone(h.expiring)
	if heap.Init(&x); len(h.expiring) > 0 && x[0].due != h.expiring[0].due {
		m.t.Fatal("the heap of expiring events is out of order")
	}

	// No loss goes unnoticed, and none is claimed without reason, except before first.
	last := make(map[Audience]uint64)
	for _, e := range m.lost {
		last[e.audience] = e.seq
	}
	marks := make(map[Audience]uint64)
	for _, s := range h.all.all() {
		if s.mark(h.first) {
			marks[s.lane.audience] = s.seq
		}
	}
	excluding := 0
	for _, e := range m.held {
		if e.excluded() != "" {
			excluding++
		}
	}
	if h.excluding != excluding {
		m.t.Fatalf("%d events exclude a user, %d counted", excluding, h.excluding)
	}
	for a, seq := range last {
		if seq >= h.first && (marks[a] != seq || !h.lost(a, seq-1, 0) || h.lost(a, seq, 0) || h.lost(a, seq-1, h.evictions)) {
			m.t.Fatalf("event %d was evicted from %v; the mark is %d, and first is %d", seq, a, marks[a], h.first)
		}
	}
	for _, e := range m.lost { // a stream that started just before it was evicted
		known := e.before
		marked := marks[e.audience] >= e.seq && h.lanes[e.audience].eviction > known
		if !h.lostBefore(e.seq-1, known, true) && !marked || !h.lostBefore(e.seq-1, known, false) && !h.lost(e.audience, e.seq-1, known) {
			m.t.Fatalf("event %d was evicted from %v after %d evictions, which streams that knew these don't notice", e.seq, e.audience, known)
		}
	}
	for a, mark := range marks {
		if last[a] != mark {
			m.t.Fatalf("the mark of %v is %d, but the last evicted event was %d", a, mark, last[a])
		}
	}
}

// bytes returns the bytes that the history must count for an event that it holds.
func (m *historyModel) bytes(e *event) int {
	n := eventOverhead
	if e.extra != nil {
		n += extraOverhead + len(e.extra.exclude)
	}
	s := e.siblings()
	if s == nil {
		return n + len(e.frame.chunk)
	}
	for _, other := range m.held { // the bytes count once, for the first sibling
		if other.siblings() == s {
			if other == e {
				n += len(e.frame.chunk)
				for _, name := range s.topics {
					n += siblingOverhead + len(name)
				}
			}
			break
		}
	}
	return n
}

func TestClasses(t *testing.T) {
	for size := 1; size < 1<<20; size++ {
		a, b := class(size), class(size+1)
		if b != a && b != a+1 || a < 1 {
			t.Fatalf("sizes %d and %d have classes %d and %d", size, size+1, a, b)
		}
		if b == a && class(size+1+size/32) == a {
			t.Fatalf("class %d of size %d is wider than 1/32", a, size)
		}
	}
}
