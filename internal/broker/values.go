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

// retain returns the retained value for m, with fields of the given encoded size, or
// nil if m isn't retained. It returns a *RetainFullError if m must be rejected. The
// caller holds b.mu.
func (b *Broker) retain(m *Message, e *event, size int, p placement) (v *retainedValue, err error) {
	r, limits, retain := &b.retained, b.retained.limits, m.Retain || p.byPolicy
	if b.replica {
		limits = p.retain
		if e.seq <= r.applied {
			if retain && r.wasRejected(e.seq) {
				return nil, &RetainFullError{Events: limits.MaxEvents + 1, Limits: limits}
			}
			r.link(e)
			return v, nil // the values that were restored include it
		}
		r.applied = e.seq
	} else if !retain {
		retain = b.history.policy(e.audience).retain()
	}
	if !retain {
		return v, nil
	}

	v, err = r.admit(e, size, limits)
	if err != nil && b.replica {
		r.reject(e.seq)
	}
	return v, err
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
	for slot := range b.valuesFor(st, v.next) {
		if slot.order > v.last {
			break
		}
		if scanned == replayScan || size >= replayBytes || len(dst) == replayEvents {
			return dst
		}
		scanned++
		v.next = slot.order
		if slot.wantedBy(st, f, now) {
			dst = append(dst, slot.value.event)
			size += len(slot.value.event.frame.chunk)
		}
	}
	v.all = true
	return dst
}

// wantedBy reports whether the slot has a value for st, given the stream's filter, as
// of now (in Unix nanoseconds).
func (s valueSlot) wantedBy(st *Stream, f digestFilter, now int64) bool {
	return f.matches(s.digest) && s.value != nil && !s.value.event.expired(now) && st.wants(s.value.event.audience)
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
		if scanned == replayScan || len(events) == replayEvents {
			return events, upTo
		}
		scanned++
		upTo = slot.order &^ orderOf(0)
		if slot.wantedBy(st, f, now) && b.history.all.find(slot.value.event) == nil {
			events = append(events, slot.value.event)
		}
	}
	return events, math.MaxUint64
}

// merge merges events with sequence numbers up to cursor into dst[from:], in order.
func merge(dst []*event, from int, events []*event, cursor uint64) []*event {
	for _, e := range events {
		if e.seq <= cursor {
			dst = append(dst, e)
		}
	}
	slices.SortFunc(dst[from:], func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
	return dst
}
