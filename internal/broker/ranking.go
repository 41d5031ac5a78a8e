package broker

import "math/bits"

// The measures by which the history ranks its lanes.
const (
	byEvents = iota
	byBytes
	rankings
)

// ranking finds a lane that is as large as the largest one by some measure, to within
// 1/32: it sorts lanes into classes, and the lanes of a class into a list, in the order
// in which they joined the class. Up to 63, each size has its own class; above that,
// each class covers 1/32 of the range between two consecutive powers of two. Each
// operation takes constant time, whatever the number of lanes.
//
// Stochastic fairness queueing finds the longest of its queues in a similar table
// (P. McKenney, "Stochastic Fairness Queuing", 1990). It counts packets, so every
// length has its own class. The idea of classes that widen with size comes from HDR
// histograms.
type ranking struct {
	by      int        // index in lane.places
	classes []laneList // by number; class 0 is empty
	top     int        // no class after this one has a lane
}

// laneList is a list of lanes, linked by their places with the same index.
type laneList struct{ first, last *lane }

// place is a lane's place in a list.
type place struct {
	prev, next *lane
	class      int32 // 0 for a lane that isn't ranked
}

// class returns the class of a size.
func class(size int) int32 {
	shift := max(bits.Len(uint(size))-6, 0)
	return int32(shift*32 + size>>shift)
}

// set ranks l by its size, which must not be 0.
func (r *ranking) set(l *lane, size int) {
	to := class(size)
	if l.places[r.by].class == to {
		return
	}
	r.remove(l)
	for int(to) >= len(r.classes) {
		r.classes = append(r.classes, laneList{})
	}
	l.places[r.by].class = to
	r.classes[to].push(l, r.by)
	r.top = max(r.top, int(to))
}

// remove removes l, if it is ranked.
func (r *ranking) remove(l *lane) {
	p := &l.places[r.by]
	if p.class != 0 {
		r.classes[p.class].remove(l, r.by)
		p.class = 0
	}
}

// largest returns a lane of the highest class, or nil if no lane is ranked. Each step
// down follows a step up by set, so they take constant time on average.
func (r *ranking) largest() *lane {
	for ; r.top > 0; r.top-- {
		if l := r.classes[r.top].first; l != nil {
			return l
		}
	}
	return nil
}

func (l *laneList) push(added *lane, by int) {
	p := &added.places[by]
	p.prev, p.next = l.last, nil
	if l.last != nil {
		l.last.places[by].next = added
	} else {
		l.first = added
	}
	l.last = added
}

func (l *laneList) remove(removed *lane, by int) {
	p := &removed.places[by]
	if p.prev != nil {
		p.prev.places[by].next = p.next
	} else {
		l.first = p.next
	}
	if p.next != nil {
		p.next.places[by].prev = p.prev
	} else {
		l.last = p.prev
	}
	p.prev, p.next = nil, nil
}
