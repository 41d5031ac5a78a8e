package broker

import (
	"math"
	"slices"
	"time"
)

// MaxRewind is the maximum number of events passed to [Rewind].
const MaxRewind = 1000

// Start is a position in the history that a stream starts from. The zero value is
// its end, so that the stream gets only new events.
type Start struct {
	kind  startKind
	value int64 // a time in Unix nanoseconds, a duration in nanoseconds, or a number of events
}

type startKind uint8

const (
	startNow startKind = iota
	startAll
	startAgo
	startTime
	startRewind
)

// SinceAll returns the start of the history. A stream that starts there never
// begins with a reset.
func SinceAll() Start { return Start{kind: startAll} }

// SinceAgo returns the position in the history as of d ago. If events after it have
// left the history, the stream starts with a reset, and then gets the events that
// remain.
func SinceAgo(d time.Duration) Start { return Start{startAgo, int64(d)} }

// SinceTime is like [SinceAgo] for a point in time.
func SinceTime(t time.Time) Start {
	switch at := t.UnixNano(); { // which wraps around 292 years away from 1970
	case t.Year() < 1700:
		return Start{startTime, math.MinInt64}
	case t.Year() > 2200:
		return Start{startTime, math.MaxInt64}
	default:
		return Start{startTime, at}
	}
}

// Rewind returns the position before the last n events that the stream would have
// got, where n is from 1 to MaxRewind. If there are fewer, it gets all of them.
func Rewind(n int) Start { return Start{startRewind, int64(n)} }

// Position returns the id of the current end of the history. A stream that starts
// with it as its last event id gets every event that is published later. Position
// returns ErrClosed once the broker is closing, and ErrSuspended while it accepts no
// streams.
func (b *Broker) Position() (id string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return "", ErrClosed
	case b.suspended:
		return "", ErrSuspended
	}
	return b.id(b.seq), nil
}

// outcomes returns the counts of streams that start like st, which is resuming or
// catching up.
func (b *Broker) outcomes(st *Stream) *Resumes {
	switch {
	case st.resume.earlier == nil && st.resume.lastID == "":
		return &b.fresh
	case st.resume.earlier == nil:
		return &b.resumes
	case st.resume.earlier.start.kind == startRewind:
		return &b.rewinds
	default:
		return &b.since
	}
}

// startEarlier sets the position of a stream that has a start, and reads its first
// events. It does both under one lock, since events could otherwise be evicted in
// between. The caller holds b.mu.
func (b *Broker) startEarlier(st *Stream) {
	h, r, from := &b.history, st.resume, st.resume.earlier
	h.evict(b.logNow())
	switch from.start.kind {
	case startAll:
		st.cursor, from.known = b.before(0), h.evictions
	case startAgo, startTime:
		at := b.startTime(from.start)
		st.cursor = b.before(h.all.since(at))
		if at < h.complete || b.incomplete(st) {
			r.reset, from.known = ResetExpired, h.evictions
		}
	case startRewind:
		st.cursor, from.known = b.rewound(st), h.evictions
	case startNow:
	}

	var live, lost bool
	from.first, from.cursor, live, lost = b.nextEvents(st, nil)
	if lost {
		r.reset, from.known = ResetExpired, h.evictions
		from.first, from.cursor, live, _ = b.nextEvents(st, nil)
	}
	b.moveStart(st, live)
	b.countStart(st, live)
}

// moveStart moves the start of a stream to its first event in the history, or to the
// end if there is none. That way, a client that reconnects after the first position
// mark doesn't get a reset because of events that had already left. Retained values
// that the history no longer holds are skipped, since they precede the mark. The caller
// holds b.mu.
func (b *Broker) moveStart(st *Stream, live bool) {
	from := st.resume.earlier
	held := slices.IndexFunc(from.first, func(e *event) bool { return b.history.all.find(e) != nil })
	switch {
	case held >= 0:
		st.cursor = from.first[held].seq - 1
		from.first = from.first[held:]
	case live || len(from.first) > 0:
		st.cursor = from.cursor
		from.first = nil
	}
}

// countStart counts a stream that has a start and has read its first events. The
// caller holds b.mu.
func (b *Broker) countStart(st *Stream, live bool) {
	st.resume.replayed, st.catchingUp = int32(len(st.resume.earlier.first)), !live
	if st.resume.counted {
		return
	}
	switch counts := b.outcomes(st); {
	case st.resume.reset != "":
		counts.Resets[st.resume.reset]++
	case live:
		counts.Replayed++
	}
	if live {
		b.replays.observe(int64(st.resume.replayed))
	}
}

// startTime returns the time that s stands for, in Unix nanoseconds. The caller holds
// b.mu.
func (b *Broker) startTime(s Start) int64 {
	if s.kind == startAgo {
		return b.logNow() - s.value
	}
	return s.value
}

// knownEvictions returns the number of evictions that don't require a reset for the
// stream, because they happened before it started.
func (st *Stream) knownEvictions() uint64 {
	if st.resume == nil || st.resume.earlier == nil {
		return 0
	}
	return st.resume.earlier.known
}

// before returns the position before the slot with the given index in the history,
// or the current end if there is none. The caller holds b.mu.
func (b *Broker) before(index int) uint64 {
	if index < b.history.all.len() {
		return b.history.all.at(index).seq - 1
	}
	return b.seq
}

// position is a position in one event log.
type position struct {
	generation int
	seq        uint64
}

// rewound returns the position from which a stream gets its last events. The caller
// holds b.mu.
func (b *Broker) rewound(st *Stream) uint64 {
	from := st.resume.earlier
	if from.scanned {
		if from.found.generation != b.generation {
			return b.seq // this log has just begun
		}
		return max(from.found.seq, b.before(0))
	}

	position := b.seq
	m := mergeBackward(b.lanesOf(st))
	for left := from.start.value; left > 0; {
		e := m.next()
		if e == nil {
			break
		}
		if !e.excludes(st) {
			position = e.seq - 1
			left--
		}
	}
	return position
}

// incomplete reports whether events for a stream with patterns are known to have been
// evicted after its cursor. Without patterns, nextEvents finds out. The caller holds
// b.mu.
func (b *Broker) incomplete(st *Stream) bool {
	switch from := st.resume.earlier; {
	case !st.hasPatterns():
		return false
	case from.scanned:
		return from.incomplete && from.found.generation == b.generation
	default:
		return anyLost(b.lanesOf(st), st.cursor, 0)
	}
}

// prepareStart checks the history for a stream that starts in the past, if that would
// take too long once the stream joins: the stream has patterns and there are many lanes,
// or it rewinds and many events may exclude it. It finds the last events for a rewind,
// and what has been evicted since the given time. It releases the lock from time to time,
// so that publishers don't have to wait for the whole scan.
func (b *Broker) prepareStart(st *Stream) {
	if st.resume == nil || st.resume.earlier == nil {
		return
	}

	from := st.resume.earlier
	if from.scanned = b.mustScan(st); !from.scanned {
		return
	}

	from.found.generation = -1
	switch from.start.kind {
	case startRewind:
		for left := int(from.start.value); left > 0; {
			left = b.scanBack(st, left)
		}
	case startAgo, startTime:
		for b.scanMarks(st) {
		}
	case startNow, startAll:
	}
}

// mustScan reports whether prepareStart must check the history for a stream.
func (b *Broker) mustScan(st *Stream) bool {
	patterns := st.hasPatterns()
	rewinds := st.resume.earlier.start.kind == startRewind && st.account != nil
	if !patterns && !rewinds {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return patterns && len(b.history.lanes) > maxLanes || rewinds && b.history.excluding > replayScan
}

// scanMarks checks at most replayScan slots, beginning at the time that st starts from,
// for marks of audiences that st wants. It reports whether there are more to check.
func (b *Broker) scanMarks(st *Stream) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, from, f := &b.history, st.resume.earlier, b.filter(st)
	if at := &from.found; at.generation != b.generation {
		from.start = Start{startTime, b.startTime(from.start)}
		*at = position{b.generation, b.before(h.all.since(from.start.value))}
	}

	slots := h.all.all()[h.all.after(from.found.seq):]
	part := whole(slots, replayScan)
	more = len(slots) > part
	for _, s := range slots[:part] {
		from.found.seq = s.seq
		if s.mark(h.first) && s.lane.wantedBy(st, f) {
			from.incomplete = true
			return false
		}
	}
	return more
}

// scanBack moves the position of a rewind back over at most replayScan events, or until
// it has found left events that st wants. It returns how many more it must find: 0 once
// it has reached the start of the history.
func (b *Broker) scanBack(st *Stream, left int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := &st.resume.earlier.found
	if at.generation != b.generation {
		*at = position{b.generation, b.seq}
		left = int(st.resume.earlier.start.value)
	}

	log, f := &b.history.all, b.filter(st)
	all := log.all()[:log.after(at.seq)]
	found := uint64(math.MaxUint64) // the last event that was found
	for i, s := range slices.Backward(all) {
		if len(all)-i > replayScan && s.seq <= at.seq {
			return left
		}
		at.seq = s.seq - 1
		if s.event == nil || s.seq == found || !s.lane.wantedBy(st, f) || s.event.excludes(st) {
			continue
		}
		found = s.seq
		if left--; left == 0 {
			return 0
		}
	}
	return 0
}

// hasPatterns reports whether the stream subscribes to a pattern.
func (st *Stream) hasPatterns() bool { return st.topics != nil && st.topics.patterns }
