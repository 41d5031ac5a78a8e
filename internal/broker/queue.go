package broker

// queue is what waits for one sink, oldest first. Its memory is borrowed from
// the shard while there is anything in it, so that an idle stream holds none.
type queue struct {
	events []*event
	head   int32 // events before it are out
	offset int32 // bytes of events[head] that are out
	bytes  int   // bytes of all events that wait, less offset

	chunked bool // the stream sends frames as chunks
}

func (q *queue) len() int { return len(q.events) - int(q.head) }

// size returns the bytes that e takes on the connection.
func (q *queue) size(e *event) int { return e.frame.size(q.chunked) }

// push appends e, borrowing memory from spare if the queue has none.
func (q *queue) push(e *event, spare *spareQueues) {
	if q.events == nil {
		q.events = spare.take()
	}
	if len(q.events) == cap(q.events) && int(q.head) > len(q.events)/2 {
		n := copy(q.events, q.events[q.head:])
		clear(q.events[n:])
		q.events, q.head = q.events[:n], 0
	}
	q.events = append(q.events, e)
	q.bytes += q.size(e)
}

// advance takes n written bytes off the front, and returns how many events of
// the order they completed and the sequence of the last of them. Delays notes
// those past live: what precedes it is no news but a replay.
func (q *queue) advance(n int, live uint64, delays *delays, spare *spareQueues) (events int, last uint64) {
	q.bytes -= n
	delays.begin()
	for n > 0 {
		e := q.events[q.head]
		left := q.size(e) - int(q.offset)
		if n < left {
			q.offset += int32(n)
			return events, last
		}
		n -= left
		q.events[q.head] = nil
		q.head++
		q.offset = 0
		if e.seq != 0 {
			events++
			last = e.seq
		}
		if e.seq > live {
			delays.add(e.at)
		}
	}
	if q.len() == 0 {
		q.release(spare)
	}
	return events, last
}

// dropOldest takes the oldest event of the order off that no byte of is out,
// and returns it, or nil if there is none.
func (q *queue) dropOldest() *event {
	i := q.oldest()
	if i >= len(q.events) || i == int(q.head) && q.offset > 0 || q.events[i].seq == 0 {
		return nil
	}
	e := q.events[i]
	head := int(q.head)
	copy(q.events[head+1:i+1], q.events[head:i])
	q.events[head] = nil
	q.head++
	q.bytes -= q.size(e)
	return e
}

// markHole puts reset before the oldest event of the order that no byte of is
// out, unless one stands there already.
func (q *queue) markHole(reset *event, spare *spareQueues) {
	q.push(reset, spare)
	i := q.oldest()
	if i > int(q.head) && q.events[i-1].hole {
		q.events = q.events[:len(q.events)-1]
		q.bytes -= q.size(reset)
		return
	}
	copy(q.events[i+1:], q.events[i:len(q.events)-1])
	q.events[i] = reset
}

// oldest is the index of the oldest event of the order that no byte of is out,
// or that of the last event if there is none.
func (q *queue) oldest() int {
	i := int(q.head)
	if q.offset > 0 {
		i++
	}
	for i < len(q.events)-1 && q.events[i].seq == 0 {
		i++
	}
	return i
}

// conflate drops the events that no byte of is out and whose conflate key is
// that of a later one, or next, the key of the event to come; and returns how
// many.
func (q *queue) conflate(next string) (dropped int) {
	first := int(q.head)
	if q.offset > 0 {
		first++
	}
	newer := map[string]bool{next: true}
	keep := len(q.events)
	for i := len(q.events) - 1; i >= first; i-- {
		e := q.events[i]
		if e.conflate != "" {
			if newer[e.conflate] {
				q.bytes -= q.size(e)
				dropped++
				continue
			}
			newer[e.conflate] = true
		}
		keep--
		q.events[keep] = e
	}
	if q.offset > 0 {
		keep--
		q.events[keep] = q.events[q.head]
	}
	clear(q.events[q.head:keep])
	q.head = int32(keep)
	return dropped
}

// waiting counts the events of the order that wait.
func (q *queue) waiting() int {
	n := 0
	for _, e := range q.events[q.head:] {
		if e.seq != 0 {
			n++
		}
	}
	return n
}

// release empties the queue and gives its memory back.
func (q *queue) release(spare *spareQueues) {
	if q.events != nil {
		clear(q.events)
		spare.give(q.events[:0])
	}
	*q = queue{chunked: q.chunked}
}

// spareQueues are the shard's slices for queues that hold something.
type spareQueues struct {
	free [][]*event
	used bool // since the last trim
}

func (s *spareQueues) take() []*event {
	s.used = true
	if n := len(s.free); n > 0 {
		q := s.free[n-1]
		s.free = s.free[:n-1]
		return q
	}
	return make([]*event, 0, 4)
}

func (s *spareQueues) give(q []*event) {
	const most = 64 // larger ones come of a rare burst and are not worth keeping
	if cap(q) <= most {
		s.free = append(s.free, q)
	}
}

// trim lets all go that has not been asked for since the last call.
func (s *spareQueues) trim() {
	if !s.used {
		s.free = nil
	}
	s.used = false
}
