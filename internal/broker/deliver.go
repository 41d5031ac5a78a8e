package broker

// deliver queues an event of the order to st, unless the log brings it.
func (s *shard) deliver(st *Stream, e *event) {
	if e.seq > st.cursor && !st.behind {
		s.enqueue(st, e)
	}
}

// enqueue queues e to st, or lets the policy decide if the queue is full.
func (s *shard) enqueue(st *Stream, e *event) {
	q := &st.queue
	size := q.size(e)
	full := q.bytes+size > s.cfg.QueueBytes && q.len() > 0
	if full && e.seq != 0 && !s.makeRoom(st, e) {
		s.drop(st, SlowConsumer)
		return
	}
	q.push(e, &s.spare)
	s.figures.queuedBytes.Add(int64(size))
	if !st.blocked {
		s.markDirty(st)
	}
}

// makeRoom makes room for e in a queue that is full, as the policy has it, or
// returns false if the stream is to end.
func (s *shard) makeRoom(st *Stream, e *event) bool {
	switch s.cfg.SlowConsumer {
	case DropOldest:
		s.dropOldest(st, st.queue.size(e))
		return true
	case Conflate:
		return s.conflate(st, e)
	case Disconnect:
	}
	return false
}

// dropOldest drops the oldest events that wait for st until n bytes fit, and
// leaves a peald.reset in their place.
func (s *shard) dropOldest(st *Stream, n int) {
	q := &st.queue
	before := q.bytes
	dropped := 0
	for q.bytes+n > s.cfg.QueueBytes && q.dropOldest() != nil {
		dropped++
	}
	s.figures.dropped[SlowConsumer].Add(int64(dropped))
	if dropped > 0 {
		last := st.sent
		if e := q.events[q.head]; q.offset > 0 && e.seq != 0 {
			last = e.seq
		}
		q.markHole(resetEvent(newBlock(), "", "overflow", s.broker.id(last)), &s.spare)
	}
	s.figures.queuedBytes.Add(int64(q.bytes - before))
}

// conflate makes room for e by dropping, of the events that wait for st and
// have a conflate key, all but the newest of each. It returns false if that
// doesn't make enough.
func (s *shard) conflate(st *Stream, e *event) bool {
	q := &st.queue
	before := q.bytes
	dropped := q.conflate(e.conflate)
	s.figures.dropped[SlowConsumer].Add(int64(dropped))
	s.figures.queuedBytes.Add(int64(q.bytes - before))
	return q.bytes+q.size(e) <= s.cfg.QueueBytes || q.len() == 0
}

func (s *shard) markDirty(st *Stream) {
	if !st.dirty && (st.queue.len() > 0 || st.behind) {
		st.dirty = true
		s.marks++
		s.dirty = append(s.dirty, st)
	}
}

// flushSome writes to the streams whose turn it is.
func (s *shard) flushSome() {
	end := min(s.nextDirty+flushTurn, len(s.dirty))
	for ; s.nextDirty < end; s.nextDirty++ {
		st := s.dirty[s.nextDirty]
		s.flushes++
		s.dirty[s.nextDirty] = nil
		st.dirty = false
		if !st.closed {
			s.flush(st)
		}
	}
	if s.nextDirty == len(s.dirty) {
		s.dirty, s.nextDirty = s.dirty[:0], 0
	} else if s.nextDirty >= cap(s.dirty)/2 {
		n := copy(s.dirty, s.dirty[s.nextDirty:])
		clear(s.dirty[n:])
		s.dirty, s.nextDirty = s.dirty[:n], 0
	}
}

// catchUp queues the next events for st out of the log.
func (s *shard) catchUp(st *Stream) {
	before := st.queue.bytes
	events, cursor, live, lost := s.broker.replay(st, s.replayed[:0])
	if lost {
		// The client took its time, and the log didn't wait.
		reset := resetEvent(newBlock(), s.broker.id(cursor), ResetExpired, s.broker.id(st.cursor))
		st.queue.push(reset, &s.spare)
	}
	for _, e := range events {
		st.queue.push(e, &s.spare)
	}
	st.cursor, st.behind = cursor, !live
	s.figures.queuedBytes.Add(int64(st.queue.bytes - before))
	clear(events)
	s.replayed = events
	if st.leaving && live {
		s.sayFarewell(st)
	}
}

// flush hands what waits for st to its sink, in one write.
func (s *shard) flush(st *Stream) {
	q := &st.queue
	if st.behind && q.len() == 0 {
		if s.catchUp(st); q.len() == 0 {
			s.markDirty(st)
			return
		}
	}
	pieces, total := s.pieces[:0], 0
	for i, e := range q.events[q.head:] {
		if len(pieces) == maxPieces || total >= maxWrite {
			break
		}
		piece := e.frame.bytes(q.chunked)
		if i == 0 {
			piece = piece[q.offset:]
		}
		pieces = append(pieces, piece)
		total += len(piece)
	}
	n, err := st.sink.Write(pieces)
	clear(pieces)
	s.pieces = pieces
	if err != nil {
		s.drop(st, WriteFailed)
		return
	}
	if n > 0 {
		events, last := q.advance(n, st.cursor, &s.delays, &s.spare)
		if s.delays.full() {
			s.measure()
		}
		if events > 0 {
			st.sent = last
			s.figures.delivered.Add(int64(events))
		}
		st.lastSent = s.now
		s.figures.bytes.Add(int64(n))
		s.figures.queuedBytes.Add(int64(-n))
	}
	if n < total {
		st.blocked = true
		s.stuck = append(s.stuck, stuckSince{st, s.now})
		st.stuck = s.now
		return
	}
	if st.leaving && q.len() == 0 && !st.behind {
		s.drop(st, st.why)
		return
	}
	s.markDirty(st)
}
