package broker

import "slices"

// queue holds the events that are waiting for one sink, oldest first. It borrows
// memory from the shard only while it isn't empty, so an idle stream holds none.
type queue struct {
	events []*event
	head   int32 // events before it have been written
	offset int32 // bytes of events[head] that have been written
	bytes  int32 // bytes of all queued events, less offset; see Config.QueueBytes

	sum  checksum // of the blocks that have been written, if form has gzip
	form form
}

func (q *queue) len() int { return len(q.events) - int(q.head) }

// size returns the number of bytes that e takes on the connection. For a stream
// with a gzip body, e must be packed.
func (q *queue) size(e *event) int { return e.in(q.form).size(q.form) }

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
	q.bytes += int32(q.size(e))
}

// advance removes n written bytes from the front. It returns how many published
// events were completed, and the sequence number of the last one. Events whose
// sequence number is greater than live are recorded in delays; earlier ones are
// replays.
func (q *queue) advance(n int, live uint64, delays *delays, spare *spareQueues) (events int, last uint64) {
	q.bytes -= int32(n)
	delays.begin()
	for n > 0 {
		e := q.events[q.head]
		left := q.size(e) - int(q.offset)
		if n < left {
			q.offset += int32(n)
			return events, last
		}

		n -= left
		if q.form.has(gzipped) {
			q.sum.add(&e.packed.Load().sum)
		}
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

// eventFilter reports whether it selects an event.
type eventFilter func(e *event) bool

func allEvents(*event) bool { return true }

// dropOldest removes the oldest published event that is entirely unwritten and may be
// dropped. It returns false if there is none. It may leave the queue empty.
func (q *queue) dropOldest(droppable eventFilter) bool {
	i := q.oldest(droppable)
	if i == len(q.events) {
		return false
	}

	q.bytes -= int32(q.size(q.events[i]))
	head := int(q.head)
	copy(q.events[head+1:i+1], q.events[head:i])
	q.events[head] = nil
	q.head++
	return true
}

// needsGap reports whether dropOldest would drop an event that isn't preceded by a
// reset, and returns the event's index.
func (q *queue) needsGap(droppable eventFilter) (i int, needed bool) {
	i = q.oldest(droppable)
	return i, i < len(q.events) && !slices.ContainsFunc(q.events[q.head:i], func(e *event) bool { return e.gap })
}

// markGap inserts reset before the event with index i.
func (q *queue) markGap(i int, reset *event, spare *spareQueues) {
	later := len(q.events) - i
	q.push(reset, spare)
	i = len(q.events) - 1 - later
	copy(q.events[i+1:], q.events[i:len(q.events)-1])
	q.events[i] = reset
}

// oldest returns the index of the oldest published event that is entirely unwritten
// and passes the filter, or len(q.events) if there is none.
func (q *queue) oldest(filter eventFilter) int {
	i := int(q.head)
	if q.offset > 0 {
		i++
	}
	for i < len(q.events) && (q.events[i].seq == 0 || !filter(q.events[i])) {
		i++
	}
	return i
}

// conflate drops the events that newer ones supersede, and returns how many it dropped.
// It drops an event if it is entirely unwritten, may be conflated, and has the conflate
// key of a later such event in the queue, or next, which is the key of the event to be
// queued.
func (q *queue) conflate(next string, conflatable eventFilter) (dropped int) {
	first := int(q.head)
	if q.offset > 0 {
		first++
	}

	newer := map[string]bool{next: true}
	keep := len(q.events)
	for i := len(q.events) - 1; i >= first; i-- {
		e := q.events[i]
		if e.conflateKey != "" && conflatable(e) {
			if newer[e.conflateKey] {
				q.bytes -= int32(q.size(e))
				dropped++
				continue
			}
			newer[e.conflateKey] = true
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

// countEvents returns the number of published events in the queue.
func (q *queue) countEvents() int {
	n := 0
	for _, e := range q.events[q.head:] {
		if e.seq != 0 {
			n++
		}
	}
	return n
}

// release empties the queue and returns its memory.
func (q *queue) release(spare *spareQueues) {
	if q.events != nil {
		clear(q.events)
		spare.give(q.events[:0])
	}
	*q = queue{form: q.form, sum: q.sum}
}

// end returns the end of a body whose blocks have all been written.
func (q *queue) end() []byte {
	switch {
	case q.form.has(gzipped):
		return sealFrame(q.sum.appendTrailer(newBlock()), chunkRoom).last().bytes(q.form)
	case q.form.has(chunked):
		return []byte(lastChunk)
	}
	return nil
}

// lastEvent returns an event with a stream's last block and the end of the body.
// Nothing may be queued after it. block must have been started with newBlock.
func (q *queue) lastEvent(block []byte) *event {
	e := &event{frame: sealFrame(block, chunkRoom).last()}
	if q.form.has(gzipped) {
		p := &packed{sum: sumOf(e.frame.block())}
		sum := q.sum
		for _, earlier := range q.events[q.head:] {
			sum.add(&earlier.packed.Load().sum)
		}
		sum.add(&p.sum)
		body := sum.appendTrailer(appendStored(newBlock(), e.frame.block()))
		p.frame = sealFrame(body, chunkRoom).last()
		e.packed.Store(p)
	}
	return e
}

// spareQueues holds slices that the shard lends to queues that are not empty.
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
	const most = 64 // larger slices come from rare bursts and aren't worth keeping
	if cap(q) <= most {
		s.free = append(s.free, q)
	}
}

// trim releases all slices if none was needed since the last call.
func (s *spareQueues) trim() {
	if !s.used {
		s.free = nil
	}
	s.used = false
}
