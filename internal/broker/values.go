package broker

import (
	"cmp"
	"math"
	"slices"
)

// startValues holds the retained values that a stream gets before its position mark.
type startValues struct {
	first []*event // those that were read when the stream joined, until it is opened
	next  uint64   // the order up to which values have been read
	last  uint64   // the order of the position mark
	all   bool     // no values are left to be read
}

// retain appends to dst the retained values for m, whose event is e with its siblings,
// with fields of the given encoded size. It appends none if m isn't retained, and returns
// a *RetainFullError if m must be rejected. The caller holds b.mu.
func (b *Broker) retain(dst []*retainedValue, m *Message, e *event, size int, p *placement) (values []*retainedValue, err error) {
	r, limits := &b.retained, b.retained.limits
	single := [1]*event{e}
	events := single[:]
	if s := e.siblings(); s != nil {
		events = s.events
	}

	if b.replica {
		limits = p.retain
		if e.seq <= r.applied {
			return dst, b.relink(m, events, p) // the values that were restored include it
		}
		r.applied = e.seq
	}
	for _, e := range events {
		if m.Retain || b.retainedByPolicy(e, p) {
			dst = append(dst, newRetainedValue(e, size))
		}
	}
	if len(dst) == 0 {
		return dst, nil
	}

	r.expire(e.at)
	if err := r.admit(dst, limits); err != nil {
		if b.replica {
			r.reject(e.seq)
		}
		return nil, err
	}
	return dst, nil
}

// retainedByPolicy reports whether a policy retains e. The caller holds b.mu.
func (b *Broker) retainedByPolicy(e *event, p *placement) bool {
	if !b.replica {
		return b.history.policy(e.audience).retain()
	}
	if i := int(e.index()); i > 0 {
		return i <= len(p.others) && p.others[i-1]
	}
	return p.byPolicy
}

// relink is retain for a message in a replica's log that the restored values already
// include. The caller holds b.mu.
func (b *Broker) relink(m *Message, events []*event, p *placement) error {
	r := &b.retained
	retained := m.Retain || slices.ContainsFunc(events, func(e *event) bool { return b.retainedByPolicy(e, p) })
	if retained && r.wasRejected(events[0].seq) {
		return &RetainFullError{Events: p.retain.MaxEvents + 1, Limits: p.retain}
	}
	for _, e := range events {
		r.link(e)
	}
	return nil
}

// startWithValues prepares the retained values for a stream whose cursor has been set,
// and reads the first of them. The caller holds b.mu.
func (b *Broker) startWithValues(st *Stream) {
	if len(b.retained.byKey) == 0 {
		return
	}
	v := &startValues{last: orderOf(st.cursor)}
	v.first = b.nextValues(st, v, nil)
	if len(v.first) == 0 && v.all {
		return
	}

	if st.resume == nil {
		st.resume = new(resumption)
	}
	r := st.resume
	r.values = v
	fresh := r.lastID == "" && r.earlier == nil
	if !st.catchingUp && !fresh {
		r.counted = true
	}
	switch {
	case !v.all:
		st.catchingUp = true // replay counts it
	case fresh && !st.catchingUp:
		b.fresh.Replayed++
	}
}

// readValues reads the next retained values for a stream.
func (b *Broker) readValues(st *Stream) []*event {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st.shard.generation != b.generation {
		return nil // another log has begun, and the stream is about to be closed
	}
	return b.nextValues(st, st.resume.values, nil)
}

// nextValues appends to dst the next retained values for st, as many as may be read
// while the lock is held. The caller holds b.mu.
func (b *Broker) nextValues(st *Stream, v *startValues, dst []*event) []*event {
	now, f, size, scanned := b.logNow(), b.filter(st), 0, 0
	taken := uint64(0) // the order of the last value in dst
	for slot := range b.valuesFor(st, v.next) {
		if slot.order > v.last {
			break
		}
		full := scanned >= replayScan || size >= replayBytes || len(dst) >= replayEvents
		if full && slot.order > v.next { // siblings stay together
			return dst
		}
		scanned++
		v.next = slot.order
		if !slot.wantedBy(st, f, now) {
			continue
		}
		if taken == slot.order {
			dst = keepFirst(dst, slot.value.event)
			continue
		}
		dst, taken = append(dst, slot.value.event), slot.order
		size += len(slot.value.event.frame.chunk)
	}
	v.all = true
	return dst
}

// keepFirst replaces the last event with its sibling e if that precedes it.
func keepFirst(events []*event, e *event) []*event {
	if last := len(events) - 1; e.index() < events[last].index() {
		events[last] = e
	}
	return events
}

// wantedBy reports whether the slot has a value for st, given the stream's filter, as
// of now (in Unix nanoseconds).
func (s valueSlot) wantedBy(st *Stream, f digestFilter, now int64) bool {
	return f.matches(s.digest) && s.value != nil && !s.value.event.expired(now) &&
		st.wants(s.value.event.audience) && !s.value.event.excludes(st)
}

// expired reports whether the event's time to live has ended as of now (in Unix
// nanoseconds).
func (e *event) expired(now int64) bool { return e.expires != 0 && e.expires <= now }

// valuesFor yields the slots after the given order that may have values for st, in
// order. The caller holds b.mu.
func (b *Broker) valuesFor(st *Stream, after uint64) func(yield func(valueSlot) bool) {
	if st.hasPatterns() {
		return func(yield func(valueSlot) bool) {
			for _, s := range b.retained.all.after(after) {
				if !yield(s) {
					return
				}
			}
		}
	}
	var lanes [][]valueSlot
	for a := range st.audiences() {
		if l := b.retained.lanes[a]; l != nil {
			lanes = append(lanes, l.after(after))
		}
	}
	return func(yield func(valueSlot) bool) {
		for {
			next := lowest(lanes)
			if next < 0 || !yield(lanes[next][0]) {
				return
			}
			lanes[next] = lanes[next][1:]
		}
	}
}

// lowest returns the index of the lane that starts with the lowest order; -1 if all are
// empty.
func lowest(lanes [][]valueSlot) int {
	next := -1
	for i, l := range lanes {
		if len(l) > 0 && (next < 0 || l[0].order < lanes[next][0].order) {
			next = i
		}
	}
	return next
}

// unheldValues returns the retained values for st that follow its cursor and that the
// history no longer holds, in order. They are complete up to the sequence number upTo.
// The caller holds b.mu.
func (b *Broker) unheldValues(st *Stream) (events []*event, upTo uint64) {
	if st.resume.earlier == nil || len(b.retained.byKey) == 0 {
		return nil, math.MaxUint64
	}
	now, f, scanned := b.logNow(), b.filter(st), 0
	for slot := range b.valuesFor(st, orderOf(st.cursor)) {
		at := slot.order &^ orderOf(0)
		if (scanned >= replayScan || len(events) >= replayEvents) && at > upTo { // siblings stay together
			return events, upTo
		}
		scanned++
		upTo = at
		switch {
		case !slot.wantedBy(st, f, now) || b.history.all.find(slot.value.event) != nil:
		case len(events) > 0 && events[len(events)-1].seq == at:
			events = keepFirst(events, slot.value.event)
		default:
			events = append(events, slot.value.event)
		}
	}
	return events, math.MaxUint64
}

// merge merges events with sequence numbers up to cursor into dst[from:], in order. Of
// siblings, it keeps only the first one.
func merge(dst []*event, from int, events []*event, cursor uint64) []*event {
	for _, e := range events {
		if e.seq <= cursor {
			dst = append(dst, e)
		}
	}
	slices.SortFunc(dst[from:], func(a, b *event) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.index(), b.index()))
	})
	merged := slices.CompactFunc(dst[from:], func(a, b *event) bool { return a.seq == b.seq })
	return dst[:from+len(merged)]
}
