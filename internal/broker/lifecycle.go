package broker

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/peald/peald/internal/eventstream"
)

// open starts serving a stream that has joined.
func (s *shard) open(st *Stream, preamble *event) {
	s.list(st)
	st.sent, st.birth = st.cursor, newBirth(s.now)

	if len(preamble.frame.chunk) > 0 {
		s.enqueue(st, preamble)
	}
	greeting := s.greeting(st)
	if st.queue.form.has(gzipped) {
		greeting.startGzip()
		s.counters.compressed.Add(1)
	}
	s.enqueue(st, greeting)
	st.joinTopics()

	if st.phase == phaseAbandoned {
		s.close(st, HungUp)
		return
	}
	st.enter(phaseOpen)
	s.begin(st)

	// A random initial delay spreads out the heartbeats of streams that were opened
	// together.
	beat := int64(s.cfg.Heartbeat)
	s.wheel.add(st, s.now, s.untilDue(st, beat/4+1+rand.Int64N(3*beat/4)))
}

// list adds a stream to the shard's streams, to those of its user, and to the counters.
func (s *shard) list(st *Stream) {
	st.index = int32(len(s.streams))
	s.streams = append(s.streams, st)
	if st.account != nil {
		st.account.group.add(st)
		s.counters.authenticated.Add(1)
	}
	s.counters.connections.Add(1)
	s.counters.connected.Add(1)
}

// joinTopics adds a stream to the groups of its topics.
func (st *Stream) joinTopics() {
	if st.topics == nil {
		return
	}
	for _, g := range st.topics.groups {
		if g != nil {
			g.add(st)
		}
	}
}

// begin queues what precedes live events for a stream.
func (s *shard) begin(st *Stream) {
	switch r := st.resume; {
	case r != nil && r.values != nil:
		events := r.values.first
		r.values.first = nil
		s.queueValues(st, events)
	case r != nil && len(r.ends) > 0:
		s.queueEnds(st)
		s.begin(st)
	case r != nil && r.earlier != nil:
		s.queueFirst(st)
	case st.catchingUp:
		s.catchUp(st)
	case r != nil:
		s.goLive(st)
	}
}

// queueFirst queues the first events for a stream that starts in the past.
func (s *shard) queueFirst(st *Stream) {
	from := st.resume.earlier
	s.queueReplay(st, from.first, from.cursor)
	from.first = nil
	if !st.catchingUp {
		s.goLive(st)
	}
}

// hangUp closes a stream whose client is gone. If the shard has not opened the
// stream yet, open closes it.
func (s *shard) hangUp(st *Stream) {
	switch st.phase {
	case phaseNew:
		st.enter(phaseAbandoned)
	case phaseAbandoned:
	default:
		s.close(st, HungUp)
	}
}

// flushAndClose closes a stream gracefully: its connection gets as much of the
// queue as it immediately accepts, and then the end of the body. The client gets
// the rest when it resumes.
func (s *shard) flushAndClose(st *Stream, why Reason) {
	if st.poll() != nil {
		s.answerAndFlush(st, why)
		return
	}
	if st.phase != phaseClosed && !st.writeBlocked && !st.phase.closing() {
		if st.queue.len() > 0 {
			s.flush(st)
		}
		// A queue that is larger than one write is truncated, but the body may
		// still end between two events.
		if q := &st.queue; st.phase != phaseClosed && !st.writeBlocked && q.offset == 0 {
			if end := q.end(); len(end) > 0 {
				_, _ = st.sink.Write([][]byte{end})
			}
		}
	}
	s.close(st, why)
}

// beginClosing enters a closing phase: the stream gets no new events, and is
// closed when its queue and its last block have been written.
func (s *shard) beginClosing(st *Stream, next phase) {
	s.unlist(st)
	st.enter(next)
	st.blockedSince = s.now // closingTimeout starts now
	st.index = int32(len(s.drains.closing))
	s.drains.closing = append(s.drains.closing, st)
	if !st.catchingUp {
		s.queueLastBlock(st)
	}
}

// queueLastBlock queues a reconnection time as the last block of a stream, or the
// response to a poll.
func (s *shard) queueLastBlock(st *Stream) {
	if p := st.poll(); p != nil {
		s.queueResponse(st, p)
		return
	}
	st.cursor = math.MaxUint64
	s.enqueue(st, st.queue.lastEvent(eventstream.AppendEnd(s.appendRetry(newBlock()))))
}

// unlist removes a stream from the list that its index refers to.
func (s *shard) unlist(st *Stream) {
	list := &s.streams
	if st.phase.closing() {
		list = &s.drains.closing
	}

	last := len(*list) - 1
	(*list)[st.index] = (*list)[last]
	(*list)[st.index].index = st.index
	(*list)[last] = nil
	*list = (*list)[:last]
	st.index = -1
}

// close closes a stream. It does nothing if the stream is already closed.
func (s *shard) close(st *Stream, why Reason) {
	if st.phase == phaseClosed {
		return
	}
	st.sink.Close(why)
	if p := st.poll(); p != nil {
		s.closePoll(p)
	}
	st.sink = nil

	why = st.CloseReason(why)
	s.counters.disconnected[why].Add(1)
	if lost := st.queue.countEvents(); lost > 0 {
		s.counters.dropped[why].Add(int64(lost))
	}
	s.counters.queuedBytes.Add(int64(-st.queue.bytes))
	st.queue.release(&s.spare)

	s.unlist(st)
	s.counters.connections.Add(-1)
	if st.queue.form.has(gzipped) {
		s.counters.compressed.Add(-1)
	}
	counted := st.phase.counted()
	st.enter(phaseClosed)
	if st.account != nil {
		s.counters.authenticated.Add(-1)
		st.account.group.memberClosed()
	}
	if st.topics != nil {
		for _, g := range st.topics.groups {
			if g != nil {
				g.memberClosed()
			}
		}
	}
	if counted {
		s.broker.leave(st, why)
	}
}

// shutDown writes whatever the sinks immediately accept and closes all streams.
func (s *shard) shutDown() {
	for _, st := range slices.Backward(s.streams) {
		if st.phase == phaseDraining {
			s.beginClosing(st, phaseDrained)
			continue
		}
		st.closeReason = Shutdown
		s.beginClosing(st, phaseStopping)
	}
	for s.nextDirty < len(s.dirty) {
		s.flushSome()
	}
	s.measure()
	for _, st := range slices.Backward(s.drains.closing) {
		s.close(st, Shutdown)
	}

	// Only sinks still post items, and only for closed streams.
	s.takeMail()
	s.finishDrains(true)
	s.stopDrainTick()
}
