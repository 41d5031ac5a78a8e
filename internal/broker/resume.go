package broker

import (
	"container/heap"
	"maps"
	"math"
	"slices"
)

// The reasons why a stream can't resume from its last event id.
const (
	// ResetExpired means that events after the id have left the history.
	ResetExpired = "expired"
	// ResetUnknown means that the id isn't from this event log.
	ResetUnknown = "unknown"
)

// Resumes counts the streams that started in the past.
type Resumes struct {
	// Replayed counts the streams that caught up without a gap.
	Replayed int64
	// Ended counts the streams that were closed before they had caught up.
	Ended int64
	// Resets counts the streams that got a peald.reset, by reason.
	Resets map[string]int64
}

func (r Resumes) clone() Resumes {
	r.Resets = maps.Clone(r.Resets)
	return r
}

// resume sets the position that st starts from: its last event id or its start,
// or the current end if it has neither or can't resume. Unless it resumes, it gets the
// retained values first. The caller holds b.mu.
func (b *Broker) resume(st *Stream) {
	if p := st.poll(); p != nil {
		b.resumePoll(st, p)
		return
	}

	st.cursor = b.seq
	switch {
	case st.resume == nil:
		b.startWithValues(st)
		b.startWithEnds(st)
	case st.resume.earlier != nil:
		b.startEarlier(st)
		b.startWithValues(st)
		b.startWithEnds(st)
	default:
		if reset := b.resumeAfter(st); reset {
			b.startWithValues(st)
			b.startWithEnds(st)
		}
	}
	if !st.catchingUp && b.hasEnded(st) {
		if st.resume == nil {
			st.resume = new(resumption)
		}
		st.resume.ended = true
	}
}

// resumeAfter sets the position that st starts from to its last event id. It reports
// whether st starts with a reset. The caller holds b.mu.
func (b *Broker) resumeAfter(st *Stream) (reset bool) {
	seq, why := b.locate(st)
	switch {
	case why != "":
		st.resume.reset = why
		b.resumes.Resets[why]++
	case seq == b.seq:
		b.resumes.Replayed++
		b.replays.observe(0)
	default:
		st.cursor, st.catchingUp = seq, true // replay counts it
	}
	return why != ""
}

// locate returns the position of a stream's last event id, or the reason why the stream
// can't resume from it. The caller holds b.mu.
func (b *Broker) locate(st *Stream) (seq uint64, reset string) {
	seq, reset = b.find(st.resume.lastID)
	if reset == "" && b.lost(st, seq) {
		reset = ResetExpired
	}
	return seq, reset
}

// lost reports whether events after seq that st wants are known to have been
// evicted. If st has patterns, lost checks only the next slots, and scan checks the
// rest. The caller holds b.mu.
func (b *Broker) lost(st *Stream, seq uint64) bool {
	h, known := &b.history, st.knownEvictions()
	if h.lostBefore(seq, known, st.hasPatterns()) {
		return true
	}
	if st.topics != nil && st.topics.patterns {
		slots, f := h.all.all()[h.all.after(seq):], b.filter(st)
		return slices.ContainsFunc(slots[:whole(slots, replayScan)], func(s slot) bool {
			return s.mark(h.first) && s.lane.eviction > known && s.lane.wantedBy(st, f)
		})
	}
	for a := range st.audiences() {
		if h.lost(a, seq, known) {
			return true
		}
	}
	return false
}

// audiences yields the audiences of a stream without patterns.
func (st *Stream) audiences() func(yield func(Audience) bool) {
	return func(yield func(Audience) bool) {
		if !yield(Everyone()) || st.account != nil && !yield(ToUser(st.account.id)) || st.topics == nil {
			return
		}
		for _, name := range st.topics.names {
			if !yield(ToTopic(name)) {
				return
			}
		}
	}
}

// find returns the sequence number in an event id, or the reason why a stream can't
// resume from the id. The caller holds b.mu.
func (b *Broker) find(id string) (seq uint64, reset string) {
	b.history.evict(b.logNow())
	epoch, seq, err := parseID(id)
	switch {
	case err != nil || epoch != b.ids.Load().epoch || seq > b.end():
		return 0, ResetUnknown
	case seq+1 < b.history.first:
		return 0, ResetExpired
	}
	return min(seq, b.seq), ""
}

const (
	// replayEvents and replayBytes limit how much is read from the history while
	// the lock is held, since publishers wait for the lock.
	replayEvents = 256
	replayBytes  = 128 << 10
	// replayScan limits how many events are checked for a stream with patterns, or for
	// one that some events may exclude.
	replayScan = 4096
)

// replay appends to dst the next events for a stream that is catching up, and
// returns the new cursor. live means that the stream has caught up: later events
// come through the shard's mailbox. lost means that the history no longer holds
// all events after the cursor.
func (b *Broker) replay(st *Stream, dst []*event) (events []*event, cursor uint64, live, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st.shard.generation != b.generation {
		return dst, st.cursor, false, false // another log has begun, and the stream is about to be closed
	}

	before := len(dst)
	events, cursor, live, lost = b.nextEvents(st, dst)
	st.resume.replayed += int32(len(events) - before)
	switch counts := b.outcomes(st); {
	case st.resume.reset != "" || st.resume.counted:
	case lost:
		counts.Resets[ResetExpired]++
	case live:
		counts.Replayed++
	}
	if lost {
		live = b.restart(st, cursor)
	}
	if live {
		b.replays.observe(int64(st.resume.replayed))
		st.resume.ended = b.hasEnded(st)
	}
	return events, cursor, live, lost
}

// restart prepares a stream that has lost events to start again, after a reset, at the
// given cursor. It reports whether the stream is already live, which is the case if
// there are no retained values for it. The caller holds b.mu.
func (b *Broker) restart(st *Stream, cursor uint64) (live bool) {
	before, r := st.cursor, st.resume
	st.cursor, r.reset = cursor, ResetExpired
	if r.earlier != nil {
		r.earlier.cursor = cursor // its first events have been queued
	}
	b.startWithValues(st)
	st.cursor = before // until the reset is queued
	return r.values == nil
}

// piece is a part of a replay.
type piece struct {
	stream *Stream
	events []*event
	bytes  int
}

// add adds an event that belongs to one of the stream's audiences, unless the stream is
// excluded or the piece has a sibling of the event.
func (p *piece) add(e *event) {
	if e.extra != nil && (e.excludes(p.stream) || p.has(e.seq)) {
		return
	}
	p.events = append(p.events, e)
	p.bytes += len(e.frame.chunk)
}

// has reports whether the piece ends with the given sequence number.
func (p *piece) has(seq uint64) bool {
	n := len(p.events)
	return n > 0 && p.events[n-1].seq == seq
}

func (p *piece) full() bool { return p.bytes >= replayBytes || len(p.events) >= replayEvents }

// nextEvents reads the history for replay. The caller holds b.mu.
func (b *Broker) nextEvents(st *Stream, dst []*event) (events []*event, cursor uint64, live, lost bool) {
	if st.hasPatterns() {
		return b.scan(st, dst)
	}
	if b.lost(st, st.cursor) {
		return dst, b.seq, true, true
	}
	m := mergeAfter(b.lanesOf(st), st.cursor)
	if values, _ := b.unheldValues(st); len(values) > 0 {
		heap.Push(m, values) // as many as are returned at once, or all
	}
	events, cursor, live = b.read(m, piece{stream: st, events: dst}, math.MaxUint64)
	return events, cursor, live, false
}

// read appends the events of m, up to the sequence number upTo, to a piece until the
// piece is full, or enough events have been checked. The piece must not be full already.
// The caller holds b.mu.
func (b *Broker) read(m *merger, p piece, upTo uint64) (events []*event, cursor uint64, live bool) {
	for n := 0; n < replayScan && !p.full(); n++ {
		if m.Len() == 0 || m.peek(0).seq > upTo {
			cursor = min(b.seq, upTo)
			return p.events, cursor, cursor == b.seq
		}
		e := m.next()
		p.add(e)
		cursor = e.seq
	}
	return p.events, cursor, false
}

// scan is nextEvents for a stream with patterns. The caller holds b.mu.
func (b *Broker) scan(st *Stream, dst []*event) (events []*event, cursor uint64, live, lost bool) {
	values, upTo := b.unheldValues(st)
	before := len(dst)
	dst, cursor, live, lost = b.scanHistory(st, dst, upTo)
	if !lost && len(values) > 0 {
		dst = merge(dst, before, values, cursor)
	}
	return dst, cursor, live, lost
}

// scanHistory is scan without retained values. It checks the events and marks after the
// stream's cursor, up to the sequence number upTo. If only few of them are for the
// stream, and there are fewer lanes than events left, it continues with the lanes. The
// caller holds b.mu.
func (b *Broker) scanHistory(st *Stream, dst []*event, upTo uint64) (events []*event, cursor uint64, live, lost bool) {
	h, known := &b.history, st.knownEvictions()
	if h.lostBefore(st.cursor, known, true) {
		return dst, b.seq, true, true
	}

	p, before, f := piece{stream: st, events: dst}, len(dst), b.filter(st)
	slots := h.all.all()[h.all.after(st.cursor):]
	enough := max(len(h.lanes), replayEvents)
	if len(h.lanes) > maxLanes || len(slots) < 2*enough {
		enough = len(slots)
	}
	for i, s := range slots {
		switch sibling := i > 0 && slots[i-1].seq == s.seq; {
		case sibling:
		case s.seq > upTo:
			return p.events, upTo, false, false
		case i >= replayScan || p.full():
			return p.events, s.seq - 1, false, false
		case i >= enough:
			lanes := b.lanesOf(st)
			if anyLost(lanes, s.seq-1, known) {
				clear(p.events[before:])
				return p.events[:before], b.seq, true, true
			}
			events, cursor, live = b.read(mergeAfter(lanes, s.seq-1), p, upTo)
			return events, cursor, live, false
		}

		switch {
		case s.event == nil && (!s.mark(h.first) || s.lane.eviction <= known) || !s.lane.wantedBy(st, f):
		case s.event == nil:
			clear(p.events[before:])
			return p.events[:before], b.seq, true, true
		default:
			p.add(s.event)
		}
	}
	if b.seq > upTo {
		return p.events, upTo, false, false
	}
	return p.events, b.seq, true, false
}

// wants reports whether the stream belongs to the audience.
func (st *Stream) wants(a Audience) bool {
	switch a.kind {
	case everyone:
		return true
	case oneUser:
		return st.account != nil && st.account.id == a.name
	case oneTopic:
		return st.topics != nil && slices.ContainsFunc(st.topics.names, func(p string) bool { return Covers(p, a.name) })
	case nobody:
	}
	return false
}
