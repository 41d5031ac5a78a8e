package broker

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// History limits the history of recent events, from which streams resume. When
// MaxEvents or MaxBytes is exceeded, the audience with the largest share of the history
// gives up its oldest event.
type History struct {
	// MaxEvents is the maximum number of events. 0 disables the history:
	// position marks then have no id, so a client that loses its connection
	// before its first event isn't notified of a gap. 1 keeps almost no history
	// but still notifies every client.
	MaxEvents int
	// MaxBytes is the maximum memory used by the events, with their compressed
	// copies and envelopes, and by the index, in bytes.
	MaxBytes int
	// MaxAge is the maximum age of an event; 0 for no limit.
	MaxAge time.Duration
}

const (
	// eventOverhead is the approximate memory, in bytes, that an event uses besides
	// its frame: the event itself and its entries in the history and its lane.
	eventOverhead = 280
	// laneOverhead is the approximate memory of a lane and of its entry in the map,
	// in bytes, besides the audience's name. A lane without events also has its mark
	// in the timeline.
	laneOverhead = 300
	// markShare is the part of History.MaxBytes that lanes without events may use.
	markShare = 16
)

// history holds recent events in order, with an index by audience. So the cost of a
// resume depends on what it replays, not on the size of the history. It is guarded
// by Broker.mu. The package documentation describes what it evicts.
type history struct {
	limits    History
	policies  policies
	digester  digester
	all       timeline
	lanes     map[Audience]*lane
	first     uint64 // events before this one may have been evicted from lanes that are no longer known
	complete  int64  // no event published from this time on has been evicted from such a lane, in Unix nanoseconds
	bytes     int    // of events and lanes
	ranks     [rankings]ranking
	expiring  expirations // events with a time to live, or with a policy for their age
	excluding int         // number of events that exclude a user

	evictions uint64 // number of evictions, plus 1 for what precedes the history
	forgotten uint64 // the last of them that the field first covers
	unmarked  uint64 // the last of them that left no valid mark, because its slot precedes first

	marked      laneList // the lanes that have a mark but no events, linked by places[byEvents]
	markedBytes int
}

// lane holds the events of one audience in order.
type lane struct {
	fifo[*event]

	audience Audience
	digest   digest       // of the audience
	policy   *TopicPolicy // nil for none
	bytes    int          // of the events
	evicted  uint64       // the last event that was evicted to stay within the limits; 0 for none
	final    uint64       // the lane's last event, if that ended the topic; 0 if it didn't
	eviction uint64       // the value of history.evictions when the lane's latest eviction was counted
	places   [rankings]place
}

// wantedBy reports whether the stream belongs to the lane's audience, given the
// stream's filter.
func (l *lane) wantedBy(st *Stream, f digestFilter) bool {
	return f.matches(l.digest) && st.wants(l.audience)
}

// cost returns the approximate memory that the lane uses besides its events, in
// bytes.
func (l *lane) cost() int { return laneOverhead + len(l.audience.name) }

// after returns the index of the lane's first event after seq, or the lane's
// length if there is none.
func (l *lane) after(seq uint64) int {
	i, _ := slices.BinarySearchFunc(l.all(), seq+1, func(e *event, want uint64) int { return cmp.Compare(e.seq, want) })
	return i
}

// lost reports whether an event of the lane that follows seq has been evicted, ignoring
// evictions numbered up to known.
func (l *lane) lost(seq, known uint64) bool { return l.evicted > seq && l.eviction > known }

func (l *lane) remove(e *event) {
	if l.at(0) == e {
		l.pop()
		return
	}
	i := l.after(e.seq - 1)
	l.items = slices.Delete(l.items, l.head+i, l.head+i+1)
}

// newHistory returns an empty history that begins at now, in Unix nanoseconds.
func newHistory(limits History, policies policies, d digester, now int64) history {
	h := history{
		limits: limits, policies: policies, digester: d, lanes: make(map[Audience]*lane),
		first: 1, complete: now, evictions: 1, forgotten: 1, unmarked: 1,
	}
	for by := range h.ranks {
		h.ranks[by].by = by
	}
	return h
}

// append adds an event and its siblings, which must follow all others, and applies the
// limits.
func (h *history) append(e *event) {
	if s := e.siblings(); s != nil {
		h.appendAll(s)
		return
	}

	if h.limits.MaxEvents == 0 {
		e.policy = h.policies.find(e.audience)
		h.lose(e.seq, e.at)
		return
	}
	l := h.push(e)
	h.expire(e.at) // no policy needs to evict what has expired
	h.limit(l)
	h.evict(e.at)
}

// push adds an event to its lane, and returns the lane.
func (h *history) push(e *event) *lane {
	l := h.lane(e.audience)
	e.policy, l.final = l.policy, 0
	if e.end() != nil {
		l.final = e.seq
	}
	h.all.append(e, l)
	l.push(e)
	h.count(l, e.historyBytes())
	if e.due = l.policy.due(e); e.due != 0 {
		heap.Push(&h.expiring, e)
	}
	if e.excluded() != "" {
		h.excluding++
	}
	return l
}

// policy returns the policy for the audience, or nil if there is none.
func (h *history) policy(a Audience) *TopicPolicy {
	if l := h.lanes[a]; l != nil {
		return l.policy
	}
	return h.policies.find(a)
}

// limit applies a policy's maximum number of events to a lane.
func (h *history) limit(l *lane) {
	for l.policy != nil && l.policy.MaxEvents != 0 && l.len() > l.policy.MaxEvents {
		h.remove(l.at(0), true)
	}
}

// reconfigure applies new limits and policies as of now (in Unix nanoseconds).
// If the policies differ, its cost grows with the number of lanes and events.
func (h *history) reconfigure(limits History, policies policies, now int64) {
	h.limits = limits
	if !h.policies.equal(policies) {
		h.policies = policies
		h.expiring = h.expiring[:0]
		for _, l := range h.lanes {
			l.policy = policies.find(l.audience)
			for _, e := range l.all() {
				if e.due = l.policy.due(e); e.due != 0 {
					e.heapIndex = int32(len(h.expiring))
					h.expiring = append(h.expiring, e)
				}
			}
		}
		heap.Init(&h.expiring)
		h.all.aged = 0
		h.expire(now)
		for _, l := range h.lanes {
			h.limit(l)
		}
	}
	h.evict(now)
}

// lane returns the lane of an audience that is about to get an event.
func (h *history) lane(a Audience) *lane {
	l := h.lanes[a]
	switch {
	case l == nil:
		l = &lane{audience: a, digest: h.digester.of(a), policy: h.policies.find(a)}
		h.lanes[a] = l
		h.bytes += l.cost()
	case l.len() == 0:
		h.marked.remove(l, byEvents)
		h.markedBytes -= l.cost()
	}
	return l
}

// count counts n more bytes for the events of a lane, and ranks the lane.
func (h *history) count(l *lane, n int) {
	l.bytes += n
	h.bytes += n
	h.ranks[byEvents].set(l, l.len())
	h.ranks[byBytes].set(l, l.bytes)
}

// grow counts n more bytes for e, and applies the limits as of now (in Unix
// nanoseconds). It does nothing if e has been removed.
func (h *history) grow(e *event, n int, now int64) {
	if s := h.all.find(e); s != nil {
		e.copyBytes += int32(n)
		h.count(s.lane, n)
		h.evict(now)
	}
}

// expire removes the events that are due as of now (in Unix nanoseconds).
func (h *history) expire(now int64) {
	for len(h.expiring) > 0 && h.expiring[0].due <= now {
		e := h.expiring[0]
		h.remove(e, e.expires == 0 || e.expires > now)
	}
}

// evict removes the events that exceed the limits as of now (in Unix nanoseconds).
func (h *history) evict(now int64) {
	if h.limits.MaxEvents == 0 {
		h.clear()
		return
	}

	h.expire(now)
	for h.limits.MaxAge != 0 {
		e := h.all.firstAged()
		if e == nil || now-e.at < int64(h.limits.MaxAge) {
			break
		}
		h.remove(e, true)
	}
	for h.all.events > h.limits.MaxEvents {
		h.remove(h.ranks[byEvents].largest().at(0), true)
	}
	for h.all.events > 0 && h.bytes > h.limits.MaxBytes {
		h.remove(h.ranks[byBytes].largest().at(0), true)
	}
	h.forget()
	h.all.trim(h.first, len(h.lanes))
}

// remove removes e from the history. evicted means that a stream that resumes from
// before e must get a reset.
func (h *history) remove(e *event, evicted bool) {
	s := h.all.find(e)
	l, size := s.lane, e.historyBytes()
	h.all.clear(s)
	l.remove(e)
	if e.due != 0 {
		heap.Remove(&h.expiring, int(e.heapIndex))
	}
	if e.excluded() != "" {
		h.excluding--
	}
	if evicted {
		h.evictions++
		l.evicted, l.eviction = max(l.evicted, e.seq), h.evictions
		if l.evicted < h.first {
			h.unmarked = h.evictions
		}
	}

	if l.len() > 0 {
		h.count(l, -size)
	} else {
		l.bytes -= size
		h.bytes -= size
		for by := range h.ranks {
			h.ranks[by].remove(l)
		}
		h.marked.push(l, byEvents)
		h.markedBytes += l.cost()
	}
	if s := e.siblings(); s != nil {
		h.release(s, e)
	}
}

// forget removes lanes without events: those that have nothing to remember, and the
// ones that have been empty for the longest time once all of them use too much
// memory. A stream can then no longer resume from before their marks, and topics that
// have ended are forgotten.
func (h *history) forget() {
	for {
		l := h.marked.first
		if l == nil || (l.evicted >= h.first || l.final != 0) && h.markedBytes <= h.limits.MaxBytes/markShare {
			return
		}
		if l.evicted != 0 {
			h.loseMark(l)
		}
		h.marked.remove(l, byEvents)
		h.markedBytes -= l.cost()
		h.bytes -= l.cost()
		delete(h.lanes, l.audience)
	}
}

// clear removes everything.
func (h *history) clear() {
	if n := h.all.len(); n > 0 {
		last := h.all.at(n - 1)
		h.lose(last.seq, last.at)
	}
	first, evictions := h.first, h.evictions
	*h = newHistory(h.limits, h.policies, h.digester, h.complete)
	h.first, h.evictions, h.forgotten, h.unmarked = first, evictions, evictions, evictions
}

// lose records that events up to and including seq, which was published at the time
// at (in Unix nanoseconds), can't be replayed.
func (h *history) lose(seq uint64, at int64) {
	h.evictions++
	h.forgotten, h.unmarked = h.evictions, h.evictions
	h.first = max(h.first, seq+1)
	h.complete = max(h.complete, at+1)
}

// loseMark records what the mark of a lane stands for, before it is removed.
func (h *history) loseMark(l *lane) {
	h.forgotten = max(h.forgotten, l.eviction)
	if l.evicted < h.first {
		return
	}
	end := h.all.after(l.evicted)
	for _, s := range h.all.all()[h.all.after(h.first-1):end] {
		if s.mark(h.first) {
			h.unmarked = max(h.unmarked, s.lane.eviction)
		}
	}
	h.first = l.evicted + 1
	if end > 0 {
		h.complete = max(h.complete, h.all.at(end-1).at+1)
	}
}

// lost reports whether an event to the audience that follows seq has been evicted,
// ignoring evictions numbered up to known.
func (h *history) lost(a Audience, seq, known uint64) bool {
	l := h.lanes[a]
	return l != nil && l.lost(seq, known)
}

// lostAfter reports whether an event to the audience that follows seq may have been
// evicted. If the audience's lane has existed since seq, its mark alone decides.
func (h *history) lostAfter(a Audience, seq uint64) bool {
	l := h.lanes[a]
	if l != nil && (l.evicted != 0 || l.len() > 0 && l.at(0).seq <= seq) {
		return l.evicted > seq
	}
	return seq+1 < h.first
}

// lostBefore reports whether events after seq may have been evicted from lanes that are
// no longer known, ignoring evictions numbered up to known. For a stream with patterns,
// it also covers lanes that are known, but whose marks no longer count.
func (h *history) lostBefore(seq, known uint64, patterns bool) bool {
	last := h.forgotten
	if patterns {
		last = h.unmarked
	}
	return seq+1 < h.first && last > known
}
