package broker

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// History limits the history of recent events, from which streams resume. When
// any limit is exceeded, the oldest events are removed.
type History struct {
	// MaxEvents is the maximum number of events. 0 disables the history:
	// position marks then have no id, so a client that loses its connection
	// before its first event isn't notified of a gap. 1 keeps almost no history
	// but still notifies every client.
	MaxEvents int
	// MaxBytes is the maximum memory used by the events, with their compressed
	// copies, and by the index, in bytes.
	MaxBytes int
	// MaxAge is the maximum age of an event; 0 for no limit.
	MaxAge time.Duration
}

// eventOverhead is the approximate memory, in bytes, that an event uses besides its
// frame: the event itself, its entries in the history and its lane, and its share
// of the map of lanes.
const eventOverhead = 320

// history holds recent events in order, with an index by audience. So the cost of a
// resume depends on what it replays, and not on the size of the history. It is
// guarded by Broker.mu.
type history struct {
	limits   History
	all      lane
	lanes    map[Audience]*lane
	first    uint64 // from this sequence number on, only expired events have been removed
	bytes    int
	expiring expirations // events with their own time to live
}

// lane is a list of events in order.
type lane struct{ fifo[*event] }

// after returns the index of the lane's first event after seq, or the lane's
// length if there is none.
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

// expirations is a heap of events by expiration time.
type expirations []*event

// Len implements [heap.Interface].
func (x *expirations) Len() int { return len(*x) }

// Less implements [heap.Interface].
func (x *expirations) Less(i, j int) bool { return (*x)[i].expires < (*x)[j].expires }

// Swap implements [heap.Interface].
func (x *expirations) Swap(i, j int) {
	a, b := (*x)[j], (*x)[i]
	(*x)[i], (*x)[j] = a, b
	a.heapIndex, b.heapIndex = int32(i), int32(j)
}

// Push implements [heap.Interface].
func (x *expirations) Push(added any) {
	e := added.(*event) //nolint:forcetypeassert // the heap holds nothing else
	e.heapIndex = int32(len(*x))
	*x = append(*x, e)
}

// Pop implements [heap.Interface].
func (x *expirations) Pop() any {
	old := *x
	last := len(old) - 1
	e := old[last]
	old[last] = nil
	*x = old[:last]
	return e
}

func newHistory(limits History) history {
	return history{limits: limits, lanes: make(map[Audience]*lane), first: 1}
}

// append adds an event, which must follow all others, and applies the limits.
func (h *history) append(e *event) {
	if h.limits.MaxEvents == 0 {
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
	if e.expires != 0 {
		heap.Push(&h.expiring, e)
	}
	h.evict(e.at)
}

// grow counts n more bytes for e, and applies the limits at the time now, in Unix
// nanoseconds. It does nothing if e has been removed.
func (h *history) grow(e *event, n int, now int64) {
	if i := h.all.after(e.seq - 1); i < h.all.len() && h.all.at(i) == e {
		e.packedBytes += int32(n)
		h.bytes += n
		h.evict(now)
	}
}

// evict removes the events that exceed the limits at the time now, in Unix
// nanoseconds.
func (h *history) evict(now int64) {
	for len(h.expiring) > 0 && h.expiring[0].expires <= now {
		h.remove(h.expiring[0])
	}
	for h.all.len() > 0 {
		e := h.all.at(0)
		if h.all.len() <= h.limits.MaxEvents && h.bytes <= h.limits.MaxBytes &&
			(h.limits.MaxAge == 0 || now-e.at < int64(h.limits.MaxAge)) {
			break
		}
		h.first = e.seq + 1
		h.remove(e)
	}
}

// remove removes e from the history.
func (h *history) remove(e *event) {
	h.bytes -= len(e.frame.chunk) + eventOverhead + int(e.packedBytes)
	h.all.remove(e)
	if e.expires != 0 {
		heap.Remove(&h.expiring, int(e.heapIndex))
	}

	l := h.lanes[e.audience]
	l.remove(e)
	if l.len() == 0 {
		delete(h.lanes, e.audience)
	}
}
