package broker

import (
	"container/heap"
	"math"
	"sync/atomic"
	"time"
)

// poll is the sink of a poll that waits. It also holds what the shard must know about
// the poll, whose events are in the stream's queue until it is answered. Streams find
// it through their sink, since a field would cost memory in every stream.
type poll struct {
	Sink

	encoder    Encoder
	ids        *idFormat // of the log that the stream's cursor belongs to
	generation int       // of that log
	wait       time.Duration
	found      *found // nil if it must wait

	// The fields below belong to the shard's goroutine.

	deadline int64 // by Broker.steady
	index    int32 // in pollTimers.waiting; -1 if it isn't there
	full     bool  // it gets no further events
	answered bool  // the response is in the queue, or has been written
}

// found holds the answer to a poll that must not wait, because of what happened between
// Read and Start.
type found struct {
	events []*event
	reset  *Reset
	ended  bool // the only topic has ended
}

// poll returns a stream's poll; nil if it isn't a poll or has been closed.
func (st *Stream) poll() *poll {
	p, _ := st.sink.(*poll)
	return p
}

// Unflushed implements [Flusher].
func (p *poll) Unflushed() bool {
	f, ok := p.Sink.(Flusher)
	return ok && f.Unflushed()
}

// Flush implements [Flusher].
func (p *poll) Flush() {
	if f, ok := p.Sink.(Flusher); ok {
		f.Flush()
	}
}

// resumePoll sets the position that a poll waits from, and reads what was published
// since Poll.Read. The caller holds b.mu.
func (b *Broker) resumePoll(st *Stream, p *poll) {
	b.polls.waiting.Add(1)
	before := st.cursor
	st.resume = nil
	switch {
	case p.generation != b.generation:
		p.found = new(found) // the client learns from its next poll that another log has begun
	case st.cursor == b.seq && !b.hasEnded(st):
	default:
		var live, lost bool
		f := new(found)
		st.resume = new(resumption) // nextEvents expects it
		f.events, st.cursor, live, lost = b.nextEvents(st, nil)
		st.resume = nil
		if lost {
			f.events, f.reset = nil, &Reset{ResetExpired, p.ids.of(before)}
		}
		if f.ended = b.hasEnded(st); len(f.events) > 0 || lost || !live || f.ended {
			p.found = f
		}
	}
}

// openPoll starts serving a poll that has joined.
func (s *shard) openPoll(st *Stream, p *poll) {
	s.list(st)
	st.joinTopics()
	if st.phase == phaseAbandoned {
		s.close(st, HungUp)
		return
	}
	st.enter(phaseOpen)
	if p.found != nil {
		s.queueEvents(st, p.found.events...)
		s.answer(st, Answered)
		return
	}

	wait := int64(p.wait)
	if st.expires != 0 {
		wait = min(wait, st.expires-time.Now().UnixNano())
	}
	p.deadline = s.now + wait
	heap.Push(&s.polls.waiting, timedPoll{st, p})
}

// collect adds e to the response to a poll. The poll is answered once the shard has
// emptied its mailbox.
func (s *shard) collect(st *Stream, p *poll, e *event) {
	if p.full || p.answered {
		return
	}
	q := &st.queue
	s.queueEvents(st, e)
	s.markDirty(st)
	// The client gets the rest with its next poll.
	p.full = q.len() >= replayEvents || int(q.bytes) >= replayBytes || e.end() != nil && st.isAlone()
}

// mayFlush reports whether the queue of a poll may be written. It first answers a poll
// that has collected events.
func (s *shard) mayFlush(st *Stream, p *poll) bool {
	if !p.answered && st.phase == phaseOpen { // a drain answers the others
		s.answer(st, Answered)
	}
	return p.answered
}

// answer answers a poll. Its stream is closed when the response has been written.
func (s *shard) answer(st *Stream, why Reason) {
	st.closeReason = why
	s.beginClosing(st, phaseStopping)
}

// answerAndFlush answers a poll, unless that is already under way, and writes as much of
// the response as the sink immediately accepts.
func (s *shard) answerAndFlush(st *Stream, why Reason) {
	if st.phase != phaseOpen { // a drain answers it
		return
	}
	if s.answer(st, why); !st.writeBlocked {
		s.flush(st)
	}
}

// queueResponse replaces the events in a poll's queue with the response.
func (s *shard) queueResponse(st *Stream, p *poll) {
	q := &st.queue
	s.polls.remove(p)
	s.broker.polls.waiting.Add(-1)
	p.answered = true

	events := q.events[q.head:]
	s.counters.delivered.Add(int64(len(events)))
	s.delays.begin()
	for _, e := range events {
		if e.seq > st.cursor {
			s.delays.add(e.at)
		}
	}
	if s.delays.full() {
		s.measure()
	}
	batch := Batch{Events: decodeAll(events, st), Position: s.pollPosition(st, p), Reason: st.closeReason}
	if f := p.found; f != nil {
		if batch.Reset = f.reset; f.ended {
			batch.addEnd(st.topics.names[0])
		}
	}
	s.counters.queuedBytes.Add(int64(-q.bytes))
	q.release(&s.spare)

	st.cursor = math.MaxUint64
	s.broker.polls.count(&batch)
	s.enqueue(st, &event{frame: rawFrame(p.encoder.Encode(batch))})
	p.encoder, p.found = nil, nil
}

// pollPosition returns the position after the events in a poll's queue. If there are
// none, it is as late as possible, so that the history still holds what follows when the
// client uses it.
func (s *shard) pollPosition(st *Stream, p *poll) string {
	q := &st.queue
	seq := st.cursor
	switch {
	case q.len() > 0:
		seq = max(seq, q.events[len(q.events)-1].seq)
	case p.found == nil && s.polls.passed.generation == p.generation:
		seq = max(seq, s.polls.passed.seq)
	}
	return p.ids.of(seq)
}

// answerDue answers the polls that have waited long enough, or whose token has expired.
func (s *shard) answerDue() {
	for len(s.polls.waiting) > 0 && s.polls.waiting[0].poll.deadline <= s.now {
		st := s.polls.waiting[0].stream
		s.polls.remove(s.polls.waiting[0].poll)
		why := Answered
		if st.expires != 0 && st.expires <= time.Now().UnixNano() {
			why = Expired
		}
		if st.phase == phaseOpen { // a drain answers the others
			s.answer(st, why)
		}
	}
}

// closePoll records that a poll's sink has been closed.
func (s *shard) closePoll(p *poll) {
	s.polls.remove(p)
	if !p.answered {
		s.broker.polls.waiting.Add(-1)
		s.broker.polls.results[pollAbandoned].Add(1)
	}
}

// pollTimers holds the waiting polls among a shard's streams. They aren't in the
// shard's wheel, because most of them are answered early and replaced by another poll,
// and the wheel keeps a closed stream until its turn.
type pollTimers struct {
	waiting pollHeap
	passed  position // if it is from the current log, all events up to it are in the queues
}

// remove removes the timer of a poll. It does nothing if there is none.
func (t *pollTimers) remove(p *poll) {
	if p.index >= 0 {
		heap.Remove(&t.waiting, int(p.index))
	}
}

// pollHeap is a heap of polls by their deadlines.
type pollHeap []timedPoll

type timedPoll struct {
	stream *Stream
	poll   *poll
}

// Len implements [heap.Interface].
func (h *pollHeap) Len() int { return len(*h) }

// Less implements [heap.Interface].
func (h *pollHeap) Less(i, j int) bool { return (*h)[i].poll.deadline < (*h)[j].poll.deadline }

// Swap implements [heap.Interface].
func (h *pollHeap) Swap(i, j int) {
	a, b := (*h)[j], (*h)[i]
	(*h)[i], (*h)[j] = a, b
	a.poll.index, b.poll.index = int32(i), int32(j)
}

// Push implements [heap.Interface].
func (h *pollHeap) Push(added any) {
	p := added.(timedPoll) //nolint:forcetypeassert // the heap holds nothing else
	p.poll.index = int32(len(*h))
	*h = append(*h, p)
}

// Pop implements [heap.Interface].
func (h *pollHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = timedPoll{}
	*h = (*h)[:last]
	p.poll.index = -1
	return p
}

// pollResult is the outcome of a poll.
type pollResult uint8

const (
	pollEvents    pollResult = iota // it got events
	pollEmpty                       // it got nothing
	pollReset                       // it got a reset, and perhaps events
	pollAbandoned                   // its client left, or its connection broke, while it waited

	pollResults
)

// PollAbandoned is the result of polls whose clients left before an answer.
const PollAbandoned = "abandoned"

// String returns the result's name in metrics.
func (r pollResult) String() string {
	return [...]string{"events", "empty", "reset", PollAbandoned}[r]
}

// pollCounters count polls. Any goroutine may use them.
type pollCounters struct {
	waiting atomic.Int64
	results [pollResults]atomic.Int64
}

// result returns the outcome of a poll that gets the batch.
func (b *Batch) result() pollResult {
	switch {
	case b.Reset != nil:
		return pollReset
	case len(b.Events) == 0:
		return pollEmpty
	}
	return pollEvents
}

// Result returns the outcome of a poll that gets the batch: "events", "empty" or
// "reset".
func (b *Batch) Result() string { return b.result().String() }

func (c *pollCounters) count(b *Batch) { c.results[b.result()].Add(1) }

// Polls holds statistics of polls.
type Polls struct {
	// Waiting is the number of polls that are waiting for an event.
	Waiting int
	// Answered counts the polls that have been answered, by [Batch.Result]. Under
	// [PollAbandoned], it counts those whose clients left first.
	Answered map[string]int64
}

// Polls returns the current statistics of polls.
func (b *Broker) Polls() Polls {
	p := Polls{Waiting: int(b.polls.waiting.Load()), Answered: make(map[string]int64, pollResults)}
	for r := range pollResults {
		p.Answered[r.String()] = b.polls.results[r].Load()
	}
	return p
}
