package broker

import "slices"

// deliver queues an event for st, unless st gets it from the history or is excluded.
func (s *shard) deliver(st *Stream, e *event) {
	if e.seq <= st.cursor || st.catchingUp || e.excludes(st) {
		return
	}
	if p := st.poll(); p != nil {
		s.collect(st, p, e)
		return
	}
	s.enqueue(st, e)
	if e.end() != nil && st.phase != phaseClosed {
		s.deliverEnds(st, e)
	}
}

// enqueue queues e for st. If the queue is full, it applies the policy for slow
// consumers.
func (s *shard) enqueue(st *Stream, e *event) {
	q := &st.queue
	e = s.prepare(st, e)
	size := q.size(e)
	full := int(q.bytes)+size > s.cfg.QueueBytes && q.len() > 0
	if full && e.seq != 0 && !s.makeRoom(st, e) {
		s.close(st, SlowConsumer)
		return
	}

	q.push(e, &s.spare)
	s.counters.queuedBytes.Add(int64(size))
	if !st.writeBlocked {
		s.markDirty(st)
	}
}

// makeRoom makes room for e in a full queue, according to the policies of the
// events in it. It first conflates the events that may be conflated, and then drops
// the oldest of those that may be dropped. makeRoom returns false if the stream
// must be closed.
func (s *shard) makeRoom(st *Stream, e *event) bool {
	q := &st.queue
	n := q.size(e)
	if s.mayUse(Conflate) {
		s.conflate(st, e)
		if int(q.bytes)+n <= s.cfg.QueueBytes || q.len() == 0 {
			return true
		}
	}
	if s.mayUse(DropOldest) {
		s.dropOldest(st, n)
		// A single event may be larger than the queue.
		return int(q.bytes)+n <= s.cfg.QueueBytes || s.policyOf(e) == DropOldest && q.oldest(allEvents) == len(q.events)
	}
	return false
}

// policyOf returns the policy that applies to e if a queue is full.
func (s *shard) policyOf(e *event) SlowPolicy {
	if own := e.policy.slowConsumer(); own != "" {
		return own
	}
	return s.cfg.SlowConsumer
}

// mayUse reports whether the policy applies to any new events.
func (s *shard) mayUse(policy SlowPolicy) bool {
	return s.cfg.SlowConsumer == policy ||
		slices.ContainsFunc(s.cfg.Topics, func(t TopicPolicy) bool { return t.SlowConsumer == policy })
}

// withPolicy returns a filter for the events that a policy applies to.
func (s *shard) withPolicy(policy SlowPolicy) eventFilter {
	return func(e *event) bool { return s.policyOf(e) == policy }
}

// dropOldest drops the oldest events queued for st that may be dropped, until n bytes
// fit or there is nothing left to drop. It puts a peald.reset in place of the first.
func (s *shard) dropOldest(st *Stream, n int) {
	q := &st.queue
	before := q.bytes
	droppable := s.withPolicy(DropOldest)
	if i, needed := q.needsGap(droppable); needed {
		last := st.sent
		for _, e := range q.events[q.head:i] {
			if e.seq != 0 {
				last = e.seq
			}
		}
		reset := resetEvent(newBlock(), "", "overflow", s.broker.id(last))
		reset.gap = true
		q.markGap(i, s.prepare(st, reset), &s.spare)
	}

	dropped := 0
	for int(q.bytes)+n > s.cfg.QueueBytes && q.dropOldest(droppable) {
		dropped++
	}
	s.counters.dropped[SlowConsumer].Add(int64(dropped))
	s.counters.queuedBytes.Add(int64(q.bytes - before))
}

// conflate drops from st's queue all but the newest event for each conflate key, among
// the events that may be conflated. e is about to be queued.
func (s *shard) conflate(st *Stream, e *event) {
	q := &st.queue
	before := q.bytes
	next := ""
	if s.policyOf(e) == Conflate {
		next = e.conflateKey
	}
	dropped := q.conflate(next, s.withPolicy(Conflate))
	s.counters.dropped[SlowConsumer].Add(int64(dropped))
	s.counters.queuedBytes.Add(int64(q.bytes - before))
}

// markDirty schedules a write to st if there is anything to write.
func (s *shard) markDirty(st *Stream) {
	if !st.dirty && (st.queue.len() > 0 || st.catchingUp) {
		st.dirty = true
		s.dirtied++
		s.dirty = append(s.dirty, st)
	}
}

// flushSome writes to the next dirty streams, at most flushTurn of them.
func (s *shard) flushSome() {
	end := min(s.nextDirty+flushTurn, len(s.dirty))
	for ; s.nextDirty < end; s.nextDirty++ {
		st := s.dirty[s.nextDirty]
		s.flushed++
		s.dirty[s.nextDirty] = nil
		st.dirty = false
		if st.phase != phaseClosed && !st.writeBlocked && (st.queue.len() > 0 || st.catchingUp) {
			s.flush(st)
		}
	}
	s.flushSinks()
	s.dirty, s.nextDirty = compacted(s.dirty, s.nextDirty)
}

// maxUnflushed is the number of sinks that may keep bytes while other streams are being
// written to. Streams that share a connection are often far apart in shard.dirty.
const maxUnflushed = 512

// flushSinks makes the next sinks, at most flushTurn of them, send what they have kept.
// It does nothing if only a few sinks are waiting and more may follow.
func (s *shard) flushSinks() {
	waiting := len(s.unflushed) - s.nextUnflushed
	if waiting == 0 || waiting < maxUnflushed && s.nextDirty < len(s.dirty) {
		return
	}

	end := s.nextUnflushed + min(waiting, flushTurn)
	for ; s.nextUnflushed < end; s.nextUnflushed++ {
		st := s.unflushed[s.nextUnflushed]
		s.unflushed[s.nextUnflushed] = nil
		if flusher, ok := st.sink.(Flusher); ok && st.phase != phaseClosed {
			flusher.Flush()
		}
	}
	s.unflushed, s.nextUnflushed = compacted(s.unflushed, s.nextUnflushed)
}

// compacted removes the first n streams of list, which have been handled, once they
// make up all or much of it. It returns the list and the number of handled streams
// that are left in it.
func compacted(list []*Stream, n int) ([]*Stream, int) {
	switch {
	case n == len(list):
		return list[:0], 0
	case n >= cap(list)/2:
		rest := copy(list, list[n:])
		clear(list[rest:])
		return list[:rest], 0
	default:
		return list, n
	}
}

// hasUnflushed reports whether a sink may have kept bytes.
func (s *shard) hasUnflushed() bool { return s.nextUnflushed < len(s.unflushed) }

// catchUp queues the next events from the history for st.
func (s *shard) catchUp(st *Stream) {
	if r := st.resume; r.values != nil {
		s.queueValues(st, s.broker.readValues(st))
		return
	}

	events, cursor, live, lost := s.broker.replay(st, s.replayed[:0])
	if lost {
		// The client was slow, and its next events have left the history.
		id := s.broker.id(cursor)
		if st.resume.values != nil {
			id = "" // the stream starts again, and the position mark follows the values
		}
		reset := resetEvent(newBlock(), id, ResetExpired, s.broker.id(st.cursor))
		s.queueEvents(st, reset)
		st.cursor = cursor
		if st.resume.values != nil {
			s.begin(st)
			return
		}
	}
	s.queueReplay(st, events, cursor)
	clear(events)
	s.replayed = events
	if live {
		s.goLive(st)
	}
}

// goLive ends the replay for a stream that has caught up.
func (s *shard) goLive(st *Stream) {
	ended := st.resume != nil && st.resume.ended
	st.resume, st.catchingUp = nil, false
	switch {
	case st.phase.closing():
		s.queueLastBlock(st)
	case ended:
		// The final event may have expired. Without its position, the client would
		// connect again and again.
		s.enqueue(st, endEvent(st.topics.names[0], s.position(st.cursor)))
		s.closeEnded(st)
	}
}

// queueValues queues retained values for st, and the position mark after the last of
// them.
func (s *shard) queueValues(st *Stream, values []*event) {
	s.queueEvents(st, values...)
	r := st.resume
	if !r.values.all {
		return
	}
	r.values = nil
	s.enqueue(st, s.markEvent(newBlock(), st.cursor))
	s.queueEnds(st)
	switch {
	case r.earlier != nil:
		s.queueFirst(st)
	case !st.catchingUp:
		s.goLive(st)
	}
}

// queueReplay queues events from the history for st, and moves its cursor.
func (s *shard) queueReplay(st *Stream, events []*event, cursor uint64) {
	for i, e := range events {
		if e.end() != nil && !st.isAlone() { // goLive ends the others
			s.queueEvents(st, events[:i+1]...)
			for _, end := range e.endsFor(st) {
				s.queueEvents(st, end)
			}
			s.queueReplay(st, events[i+1:], cursor)
			return
		}
	}
	s.queueEvents(st, events...)
	st.cursor = cursor
}

// queueEvents queues events for st, regardless of the queue's limit.
func (s *shard) queueEvents(st *Stream, events ...*event) {
	before := st.queue.bytes
	for _, e := range events {
		st.queue.push(s.prepare(st, e), &s.spare)
	}
	s.counters.queuedBytes.Add(int64(st.queue.bytes - before))
}

// fill adds to the queue of st what comes from the history, or the response to a poll.
// It reports whether the queue may be written.
func (s *shard) fill(st *Stream) bool {
	if p := st.poll(); p != nil {
		return s.mayFlush(st, p)
	}
	if st.catchingUp && st.queue.len() == 0 {
		if s.catchUp(st); st.queue.len() == 0 {
			s.markDirty(st)
			return false
		}
	}
	return true
}

// flush hands the queue of st, or the part of it that fits into one write, to
// its sink.
func (s *shard) flush(st *Stream) {
	if !s.fill(st) {
		return
	}

	q := &st.queue
	pieces, total := s.pieces[:0], 0
	for i, e := range q.events[q.head:] {
		if len(pieces) == maxPieces || total >= maxWrite {
			break
		}
		piece := e.in(q.form).bytes(q.form)
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
		s.close(st, WriteFailed)
		return
	}

	if st.flushes && st.sink.(Flusher).Unflushed() { //nolint:forcetypeassert // flushes means that it is a Flusher
		s.unflushed = append(s.unflushed, st)
	}
	if n > 0 {
		events, last := q.advance(n, st.cursor, &s.delays, &s.spare)
		if s.delays.full() {
			s.measure()
		}
		if events > 0 {
			st.sent = last
			s.counters.delivered.Add(int64(events))
		}
		st.lastSent = s.now
		s.counters.bytes.Add(int64(n))
		s.counters.queuedBytes.Add(int64(-n))
	}

	if n < total {
		// A retry must not defer the timeout if the sink accepts nothing.
		if n > 0 || !st.stalled {
			st.blockedSince = s.now
		}
		st.writeBlocked, st.stalled = true, true
		if !st.timed {
			st.timed = true
			s.blocked.add(st)
		}
		return
	}
	st.stalled = false
	if st.phase.closing() && q.len() == 0 && !st.catchingUp {
		s.close(st, st.closeReason)
		return
	}
	s.markDirty(st)
}
