package broker

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// History bounds the log of recent events, out of which streams resume. An
// event leaves the log when any bound is passed, the oldest first.
type History struct {
	// MaxEvents is the most events. 0 means that there is no log: marks then
	// have no id, so a client that reconnects before its first event can't be
	// told what it missed. 1 is enough to tell every client.
	MaxEvents int
	// MaxBytes is the most memory, in bytes, of events and index.
	MaxBytes int
	// MaxAge is how long an event is kept; 0 for no bound.
	MaxAge time.Duration
}

// eventOverhead is about what an event costs in memory besides its frame: the
// event itself, its places in the log and its lane, and its share of the map
// of lanes.
const eventOverhead = 320

// history is the log: recent events in their order, and an index by audience,
// so that a resume costs what it replays and not what the log holds. It is
// guarded by Broker.mu.
type history struct {
	bounds History
	all    lane
	lanes  map[Audience]*lane
	first  uint64 // no event from this sequence on has been let go but at its own end
	bytes  int
	ending endings // events that have an end of their own
}

// lane is events in order.
type lane struct{ fifo[*event] }

// after returns the index of the lane's first event past seq, which is the
// lane's length if there is none.
func (l *lane) after(seq uint64) int {
	i, _ := slices.BinarySearchFunc(l.all(), seq+1, func(e *event, want uint64) int { return cmp.Compare(e.seq, want) })
	return i
}

func (l *lane) remove(e *event) {
	if l.at(0) == e {
		l.pop()
		return
	}
	i := l.after(e.seq - 1)
	l.items = slices.Delete(l.items, l.head+i, l.head+i+1)
}

// endings is a heap of events by when they end.
type endings []*event

// Len implements [heap.Interface].
func (t *endings) Len() int { return len(*t) }

// Less implements [heap.Interface].
func (t *endings) Less(i, j int) bool { return (*t)[i].ends < (*t)[j].ends }

// Swap implements [heap.Interface].
func (t *endings) Swap(i, j int) {
	a, b := (*t)[j], (*t)[i]
	(*t)[i], (*t)[j] = a, b
	a.ending, b.ending = i, j
}

// Push implements [heap.Interface].
func (t *endings) Push(x any) {
	e := x.(*event) //nolint:forcetypeassert // nothing else is in the heap
	e.ending = len(*t)
	*t = append(*t, e)
}

// Pop implements [heap.Interface].
func (t *endings) Pop() any {
	old := *t
	last := len(old) - 1
	e := old[last]
	old[last] = nil
	*t = old[:last]
	return e
}

func newHistory(bounds History) history {
	return history{bounds: bounds, lanes: make(map[Audience]*lane), first: 1}
}

// append takes in the event that follows all others.
func (h *history) append(e *event) {
	if h.bounds.MaxEvents == 0 {
		h.first = e.seq + 1
		return
	}
	h.all.push(e)
	l := h.lanes[e.audience]
	if l == nil {
		l = new(lane)
		h.lanes[e.audience] = l
	}
	l.push(e)
	h.bytes += len(e.frame.chunk) + eventOverhead
	if e.ends != 0 {
		heap.Push(&h.ending, e)
	}
	h.evict(e.at)
}

// evict lets go what is past the bounds as of now, in Unix nanoseconds.
func (h *history) evict(now int64) {
	for len(h.ending) > 0 && h.ending[0].ends <= now {
		h.forget(h.ending[0])
	}
	for h.all.len() > 0 {
		e := h.all.at(0)
		if h.all.len() <= h.bounds.MaxEvents && h.bytes <= h.bounds.MaxBytes &&
			(h.bounds.MaxAge == 0 || now-e.at < int64(h.bounds.MaxAge)) {
			break
		}
		h.first = e.seq + 1
		h.forget(e)
	}
}

// forget takes e out of the log.
func (h *history) forget(e *event) {
	h.bytes -= len(e.frame.chunk) + eventOverhead
	h.all.remove(e)
	if e.ends != 0 {
		heap.Remove(&h.ending, e.ending)
	}
	l := h.lanes[e.audience]
	l.remove(e)
	if l.len() == 0 {
		delete(h.lanes, e.audience)
	}
}

// The reasons for which a stream can't go on from its last event id.
const (
	// ResetExpired: the log has let go what follows it.
	ResetExpired = "expired"
	// ResetUnknown: it is none of this log's.
	ResetUnknown = "unknown"
)

// Resumes counts the streams that came with a last event id.
type Resumes struct {
	// Replayed counts those that went on from there without a hole.
	Replayed int64
	// Ended counts those that ended before all had been replayed.
	Ended int64
	// Resets counts those that were told of a hole, by reason.
	Resets map[string]int64
}

// resume sets the position that st starts from: behind its last event id, or
// the end of the log. The caller has b.mu.
func (b *Broker) resume(st *Stream) {
	st.cursor = b.seq
	if st.resume == nil {
		return
	}
	seq, reset := b.find(st.resume.lastID)
	switch {
	case reset != "":
		st.resume.reset = reset
		b.resumes.Resets[reset]++
	case seq == b.seq:
		b.resumes.Replayed++
		b.replays.observe(0, 1)
	default:
		st.cursor, st.behind = seq, true // replay counts it
	}
}

// find is the position of an event's id in the log, or why it is of no use
// there. The caller has b.mu.
func (b *Broker) find(id string) (seq uint64, reset string) {
	b.history.evict(b.logNow())
	epoch, seq, err := parseID(id)
	switch {
	case err != nil || epoch != b.log.Load().epoch || seq > b.seq:
		return 0, ResetUnknown
	case seq+1 < b.history.first:
		return 0, ResetExpired
	}
	return seq, ""
}

const (
	// replayEvents and replayBytes bound what one look into the log takes
	// out, since publishers wait for it.
	replayEvents = 256
	replayBytes  = 128 << 10
	// replayWalk bounds the events that are looked at for a stream with
	// patterns.
	replayWalk = 4096
)

// replay appends to dst the next events for a stream at cursor, and returns
// the position behind them. live means that there are no more, and that what
// follows comes through the shard's mailbox; lost that the log no longer holds
// all since cursor.
func (b *Broker) replay(st *Stream, dst []*event) (events []*event, cursor uint64, live, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st.shard.begun != b.begun {
		return dst, st.cursor, false, false // another log has begun, and the stream is about to be cut
	}
	before := len(dst)
	events, cursor, live, lost = b.look(st, dst)
	st.replayed += int32(len(events) - before)
	switch {
	case lost:
		b.resumes.Resets[ResetExpired]++
	case live:
		b.resumes.Replayed++
	}
	if live {
		b.replays.observe(int64(st.replayed), 1)
	}
	return events, cursor, live, lost
}

// look is one look into the log for replay. The caller has b.mu.
func (b *Broker) look(st *Stream, dst []*event) (events []*event, cursor uint64, live, lost bool) {
	h := &b.history
	if st.cursor+1 < h.first {
		return dst, b.seq, true, true
	}
	if st.topics != nil && st.topics.patterns {
		return b.walk(st, dst)
	}
	lanes := make([][]*event, 0, 4)
	add := func(a Audience) {
		if l := h.lanes[a]; l != nil {
			lanes = append(lanes, l.all()[l.after(st.cursor):])
		}
	}
	add(Everyone())
	if st.account != nil {
		add(ToUser(st.account.id))
	}
	if st.topics != nil {
		for _, name := range st.topics.names {
			add(ToTopic(name))
		}
	}
	size := 0
	for size < replayBytes && len(dst) < replayEvents {
		next := -1
		for i, l := range lanes {
			if len(l) > 0 && (next < 0 || l[0].seq < lanes[next][0].seq) {
				next = i
			}
		}
		if next < 0 {
			return dst, b.seq, true, false
		}
		e := lanes[next][0]
		lanes[next] = lanes[next][1:]
		dst = append(dst, e)
		size += len(e.frame.chunk)
	}
	return dst, dst[len(dst)-1].seq, false, false
}

// walk is look for a stream with patterns: it looks at every event since the
// stream's position. The caller has b.mu.
func (b *Broker) walk(st *Stream, dst []*event) (events []*event, cursor uint64, live, lost bool) {
	log := &b.history.all
	all := log.all()[log.after(st.cursor):]
	size := 0
	for i, e := range all {
		if i == replayWalk || size >= replayBytes || len(dst) == replayEvents {
			return dst, e.seq - 1, false, false
		}
		if st.wants(e.audience) {
			dst = append(dst, e)
			size += len(e.frame.chunk)
		}
	}
	return dst, b.seq, true, false
}

// wants says whether the stream is of the audience.
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
