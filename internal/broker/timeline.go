package broker

import (
	"slices"
	"sort"
)

// timeline holds the events of a history in order, and the marks of what was
// evicted. A removed event leaves a dead slot. Dead slots are removed once they are
// the oldest, or make up more than half of all slots, so each costs constant time on
// average.
//
// The slots of siblings have the same sequence number. Code that reads a part of the
// timeline must not stop between them.
type timeline struct {
	fifo[slot]

	events int
	aged   int // firstAged ignores slots before this index
}

// slot holds an event. After the event is removed, the slot still records its
// position.
//
// The slot of the last event that was evicted from a lane is the lane's mark. A
// stream with patterns reads the timeline, so it finds marks in order among the
// events.
type slot struct {
	seq   uint64
	at    int64 // when the event was published, in Unix nanoseconds; never less than in an earlier slot, even if a clock was set back
	lane  *lane
	event *event // nil if it was removed
}

// mark reports whether the slot is the mark of its lane. Marks before first have no
// meaning: see history.first.
func (s *slot) mark(first uint64) bool {
	return s.event == nil && s.seq >= first && s.lane.evicted == s.seq
}

// after returns the index of the first slot after seq, or the number of slots if
// there is none.
func (t *timeline) after(seq uint64) int {
	slots := t.all()
	if len(slots) == 0 || seq < slots[0].seq {
		return 0
	}

	// Sequence numbers are consecutive except where dead slots were removed, where a
	// replica's log skips some, or after siblings.
	if i := seq - slots[0].seq; i < uint64(len(slots)) && slots[i].seq == seq && (i+1 == uint64(len(slots)) || slots[i+1].seq > seq) {
		return int(i) + 1
	}
	return sort.Search(len(slots), func(i int) bool { return slots[i].seq > seq })
}

// whole returns the length of the shortest part of slots that has at least n slots, or
// all of them, and doesn't separate siblings.
func whole(slots []slot, n int) int {
	n = min(n, len(slots))
	for n > 0 && n < len(slots) && slots[n].seq == slots[n-1].seq {
		n++
	}
	return n
}

// since returns the index of the first slot whose time is not before at (in Unix
// nanoseconds), or the number of slots if there is none.
func (t *timeline) since(at int64) int {
	slots := t.all()
	return sort.Search(len(slots), func(i int) bool { return slots[i].at >= at })
}

// find returns the slot of an event, or nil if it has been removed.
func (t *timeline) find(e *event) *slot {
	slots := t.all()
	for i := t.after(e.seq) - 1; i >= 0 && slots[i].seq == e.seq; i-- {
		if slots[i].event == e {
			return &slots[i]
		}
	}
	return nil
}

func (t *timeline) append(e *event, l *lane) {
	at := e.at
	if n := t.len(); n > 0 {
		at = max(at, t.items[len(t.items)-1].at)
	}
	t.push(slot{e.seq, at, l, e})
	t.events++
}

// first returns the oldest event, or nil if there is none. Its cost is proportional to
// the number of marks before that event.
func (t *timeline) first() *event {
	for _, s := range t.all() {
		if s.event != nil {
			return s.event
		}
	}
	return nil
}

// firstAged returns the oldest event without a policy for its age, or nil if there is
// none. It remembers what it has skipped, so it takes constant time on average.
func (t *timeline) firstAged() *event {
	for slots := t.all(); t.aged < len(slots); t.aged++ {
		if s := &slots[t.aged]; s.event != nil && !s.lane.policy.ownAge() {
			return s.event
		}
	}
	return nil
}

// clear removes a slot's event.
func (t *timeline) clear(s *slot) {
	s.event = nil
	t.events--
}

// trim removes dead slots that are the oldest, or all of them if there are many.
// marks is the maximum number of marks.
func (t *timeline) trim(first uint64, marks int) {
	dead := func(s *slot) bool { return s.event == nil && !s.mark(first) }
	for t.len() > 0 && dead(&t.all()[0]) {
		t.pop()
		t.aged = max(t.aged-1, 0)
	}

	const few = 64
	if t.len() <= 2*(t.events+marks)+few {
		return
	}
	kept := t.items[:0]
	for _, s := range t.all() {
		if !dead(&s) {
			kept = append(kept, s)
		}
	}
	clear(t.items[len(kept):])
	t.items, t.head, t.aged = kept, 0, 0
	if cap(t.items) > 4*len(t.items)+few {
		t.items = slices.Clone(t.items) // don't hold on to memory that was only needed for a burst
	}
}
