package broker

import "container/heap"

// maxLanes limits how many lanes are compared with a stream's patterns while the lock
// is held.
const maxLanes = replayScan / 2

// lanesOf returns the lanes of the stream's audiences. If it has patterns, lanesOf checks
// every lane. The caller holds b.mu.
func (b *Broker) lanesOf(st *Stream) []*lane {
	lanes := make([]*lane, 0, 4)
	if st.hasPatterns() {
		f := b.filter(st)
		for _, l := range b.history.lanes {
			if l.wantedBy(st, f) {
				lanes = append(lanes, l)
			}
		}
		return lanes
	}
	for a := range st.audiences() {
		if l := b.history.lanes[a]; l != nil {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// anyLost reports whether an event after seq has been evicted from one of the lanes,
// ignoring evictions numbered up to known.
func anyLost(lanes []*lane, seq, known uint64) bool {
	for _, l := range lanes {
		if l.lost(seq, known) {
			return true
		}
	}
	return false
}

// merger merges the events of lanes, oldest first, or newest first if backward is set.
// It is a heap.
type merger struct {
	lanes    [][]*event // the events of each lane that are left; none is empty
	backward bool
}

// mergeAfter returns a merger for the events after seq, oldest first.
func mergeAfter(lanes []*lane, seq uint64) *merger {
	m := &merger{lanes: make([][]*event, 0, len(lanes))}
	for _, l := range lanes {
		if events := l.all()[l.after(seq):]; len(events) > 0 {
			m.lanes = append(m.lanes, events)
		}
	}
	heap.Init(m)
	return m
}

// mergeBackward returns a merger for all events, newest first.
func mergeBackward(lanes []*lane) *merger {
	m := mergeAfter(lanes, 0)
	m.backward = true
	heap.Init(m)
	return m
}

// next removes the next event and returns it, or nil if there is none. Of siblings, it
// returns only the first one.
func (m *merger) next() *event {
	if len(m.lanes) == 0 {
		return nil
	}
	e := m.take()
	for len(m.lanes) > 0 && m.peek(0).seq == e.seq {
		if sibling := m.take(); sibling.index() < e.index() {
			e = sibling
		}
	}
	return e
}

// take removes the next event and returns it. There must be one.
func (m *merger) take() *event {
	e := m.peek(0)
	if events := m.lanes[0]; m.backward {
		m.lanes[0] = events[:len(events)-1]
	} else {
		m.lanes[0] = events[1:]
	}
	if len(m.lanes[0]) == 0 {
		heap.Pop(m)
	} else {
		heap.Fix(m, 0)
	}
	return e
}

func (m *merger) peek(i int) *event {
	if m.backward {
		return m.lanes[i][len(m.lanes[i])-1]
	}
	return m.lanes[i][0]
}

// Len implements [heap.Interface].
func (m *merger) Len() int { return len(m.lanes) }

// Less implements [heap.Interface].
func (m *merger) Less(i, j int) bool { return m.peek(i).seq < m.peek(j).seq != m.backward }

// Swap implements [heap.Interface].
func (m *merger) Swap(i, j int) { m.lanes[i], m.lanes[j] = m.lanes[j], m.lanes[i] }

// Push implements [heap.Interface].
func (m *merger) Push(added any) {
	events := added.([]*event) //nolint:forcetypeassert // the heap holds nothing else
	m.lanes = append(m.lanes, events)
}

// Pop implements [heap.Interface].
func (m *merger) Pop() any {
	m.lanes = m.lanes[:len(m.lanes)-1]
	return nil
}
