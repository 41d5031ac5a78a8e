package broker

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/peald/peald/internal/eventstream"
)

// shard owns streams. Everything in it but the mailbox and the figures belongs
// to the goroutine that runs it.
type shard struct {
	broker *Broker
	number int

	mail    sync.Mutex
	mailbox []item
	wake    chan struct{} // has a token when the mailbox was given its first item

	streams   []*Stream
	byAccount map[*account][]*Stream
	dirty     []*Stream // have something to write and a sink that can take it
	nextDirty int
	wheel     wheel
	stuck     []stuckSince // sinks that take nothing, the longest first
	spare     spareQueues
	read      []item   // the mailbox's other half, while its items are handled
	pieces    [][]byte // scratch of flush
	now       int64    // Unix nanoseconds, as of this turn
	greetings []*event
	heartbeat *event
	closing   bool

	figures figures
}

type itemKind uint8

const (
	deliver itemKind = iota
	join
	ready
	hangUp
	shutdown
)

// item is what the others tell a shard.
type item struct {
	kind   itemKind
	event  *event   // deliver; join: the stream's preamble
	user   *account // deliver: to one user; nil for all of the shard
	stream *Stream  // join, ready, hangUp
}

// stuckSince says since when a stream's sink has taken nothing.
type stuckSince struct {
	stream *Stream
	since  int64
}

const (
	// flushTurn is how many streams are written before the mailbox is looked
	// at again: few enough that publishers wait for a fraction of a
	// millisecond, many enough that looking costs nothing.
	flushTurn = 64
	// maxPieces and maxWrite bound one write, so that one stream's large
	// queue doesn't hold up the others.
	maxPieces = 256
	maxWrite  = 256 << 10
)

func newShard(b *Broker, number int, greetings []*event) *shard {
	beat := eventstream.AppendEnd(eventstream.AppendComment(nil, "heartbeat"))
	return &shard{
		broker:    b,
		number:    number,
		wake:      make(chan struct{}, 1),
		byAccount: make(map[*account][]*Stream),
		wheel:     newWheel(b.cfg.Heartbeat),
		greetings: greetings,
		heartbeat: &event{frame: beat},
		now:       time.Now().UnixNano(),
	}
}

// post puts it into the mailbox. It never blocks.
func (s *shard) post(it item) {
	s.mail.Lock()
	first := len(s.mailbox) == 0
	s.mailbox = append(s.mailbox, it)
	s.mail.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// run is the shard's goroutine.
func (s *shard) run() {
	tick := time.NewTicker(s.wheel.tick)
	defer tick.Stop()
	for !s.closing {
		if s.nextDirty < len(s.dirty) {
			select {
			case <-tick.C:
				s.onTick()
			default:
			}
		} else {
			select {
			case <-s.wake:
			case <-tick.C:
				s.onTick()
			}
		}
		s.now = time.Now().UnixNano()
		s.takeMail()
		s.flushSome()
	}
	s.end()
}

// takeMail handles all that is in the mailbox.
func (s *shard) takeMail() {
	s.mail.Lock()
	s.mailbox, s.read = s.read[:0], s.mailbox
	s.mail.Unlock()
	for i := range s.read {
		s.handle(&s.read[i])
	}
	clear(s.read)
	const keep = 4096
	if cap(s.read) > keep {
		s.read = nil
	}
}

func (s *shard) handle(it *item) {
	switch it.kind {
	case deliver:
		streams := s.streams
		if it.user != nil {
			streams = s.byAccount[it.user]
		}
		// Backwards, since a full queue may take its stream out of the slice.
		for _, st := range slices.Backward(streams) {
			s.enqueue(st, it.event)
		}
		s.broker.taken(it.event)
	case join:
		s.open(it.stream, it.event)
	case ready:
		if st := it.stream; st.blocked && !st.closed {
			st.blocked = false
			s.markDirty(st)
		}
	case hangUp:
		if st := it.stream; st.index < 0 {
			st.gone = true // it has yet to join, or has ended
		} else {
			s.drop(st, HungUp)
		}
	case shutdown:
		s.closing = true
	}
}

// open takes in a stream that has joined.
func (s *shard) open(st *Stream, preamble *event) {
	st.index = int32(len(s.streams))
	s.streams = append(s.streams, st)
	if st.account != nil {
		s.byAccount[st.account] = append(s.byAccount[st.account], st)
		s.figures.authenticated.Add(1)
	}
	s.figures.connections.Add(1)
	s.figures.connected.Add(1)
	if len(preamble.frame) > 0 {
		s.enqueue(st, preamble)
	}
	s.enqueue(st, s.greetings[rand.IntN(len(s.greetings))])
	if st.gone {
		s.drop(st, HungUp)
		return
	}
	// A random phase spreads the heartbeats of streams that came together.
	s.wheel.add(st, s.now, 1+rand.Int64N(int64(s.broker.cfg.Heartbeat)))
}

// enqueue queues e to st, or lets the policy decide if the queue is full.
func (s *shard) enqueue(st *Stream, e *event) {
	q := &st.queue
	if q.bytes+len(e.frame) > s.broker.cfg.QueueBytes && q.len() > 0 && e.seq != 0 {
		if s.broker.cfg.SlowConsumer == Disconnect {
			s.drop(st, SlowConsumer)
			return
		}
		s.makeRoom(st, len(e.frame))
	}
	q.push(e, &s.spare)
	s.figures.queuedBytes.Add(int64(len(e.frame)))
	if !st.blocked {
		s.markDirty(st)
	}
}

// makeRoom drops the oldest events that wait for st until n bytes fit, and
// leaves a peald.reset in their place.
func (s *shard) makeRoom(st *Stream, n int) {
	q := &st.queue
	before := q.bytes
	dropped := 0
	for q.bytes+n > s.broker.cfg.QueueBytes && q.dropOldest() != nil {
		dropped++
	}
	s.figures.dropped[SlowConsumer].Add(int64(dropped))
	if dropped > 0 {
		last := st.sent
		if e := q.events[q.head]; q.offset > 0 && e.seq != 0 {
			last = e.seq
		}
		q.markHole(s.broker.resetEvent("overflow", last), &s.spare)
	}
	s.figures.queuedBytes.Add(int64(q.bytes - before))
}

func (s *shard) markDirty(st *Stream) {
	if !st.dirty && st.queue.len() > 0 {
		st.dirty = true
		s.dirty = append(s.dirty, st)
	}
}

// flushSome writes to the streams whose turn it is.
func (s *shard) flushSome() {
	end := min(s.nextDirty+flushTurn, len(s.dirty))
	for ; s.nextDirty < end; s.nextDirty++ {
		st := s.dirty[s.nextDirty]
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

// flush hands what waits for st to its sink, in one write.
func (s *shard) flush(st *Stream) {
	q := &st.queue
	pieces, total := s.pieces[:0], 0
	for i, e := range q.events[q.head:] {
		if len(pieces) == maxPieces || total >= maxWrite {
			break
		}
		frame := e.frame
		if i == 0 {
			frame = frame[q.offset:]
		}
		pieces = append(pieces, frame)
		total += len(frame)
	}
	n, err := st.sink.Write(pieces)
	clear(pieces)
	s.pieces = pieces
	if err != nil {
		s.drop(st, WriteFailed)
		return
	}
	if n > 0 {
		events, last := q.advance(n, &s.spare)
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
	s.markDirty(st)
}

// drop ends a stream. It does nothing to one that has ended.
func (s *shard) drop(st *Stream, why Reason) {
	if st.closed {
		return
	}
	st.closed = true
	st.sink.Close(why)
	st.sink = nil
	s.figures.disconnected[why].Add(1)
	if lost := st.queue.waiting(); lost > 0 {
		s.figures.dropped[why].Add(int64(lost))
	}
	s.figures.queuedBytes.Add(int64(-st.queue.bytes))
	st.queue.release(&s.spare)

	last := len(s.streams) - 1
	s.streams[st.index] = s.streams[last]
	s.streams[st.index].index = st.index
	s.streams[last] = nil
	s.streams = s.streams[:last]
	st.index = -1
	s.figures.connections.Add(-1)
	if st.account != nil {
		s.figures.authenticated.Add(-1)
		s.forget(st)
	}
	s.broker.leave(st)
}

// forget takes st out of its user's streams.
func (s *shard) forget(st *Stream) {
	streams := s.byAccount[st.account]
	for i, other := range streams {
		if other == st {
			last := len(streams) - 1
			streams[i] = streams[last]
			streams[last] = nil
			streams = streams[:last]
			break
		}
	}
	if len(streams) == 0 {
		delete(s.byAccount, st.account)
	} else {
		s.byAccount[st.account] = streams
	}
}

// onTick does what is due: heartbeats, ends of tokens, and sinks that have
// taken nothing for too long.
func (s *shard) onTick() {
	s.now = time.Now().UnixNano()
	s.wheel.advance(s.now, s.onDue)
	oldest := s.now - int64(s.broker.cfg.WriteTimeout)
	n := 0
	for n < len(s.stuck) && s.stuck[n].since <= oldest {
		// A later entry stands for a stream that has taken something since.
		if st := s.stuck[n].stream; st.blocked && st.stuck == s.stuck[n].since {
			s.drop(st, WriteTimeout)
		}
		n++
	}
	if n > 0 {
		s.stuck = slices.Delete(s.stuck, 0, n)
	}
	s.spare.trim()
}

// onDue is called when a stream's turn on the wheel comes, and returns the
// time until its next turn, or 0 if it has ended.
func (s *shard) onDue(st *Stream) int64 {
	beat := int64(s.broker.cfg.Heartbeat)
	switch {
	case st.closed:
		return 0
	case st.expires != 0 && st.expires <= s.now:
		s.drop(st, Expired)
		return 0
	case st.queue.len() == 0 && s.now-st.lastSent > beat/4:
		s.enqueue(st, s.heartbeat)
	}
	if st.expires != 0 {
		return min(beat, st.expires-s.now)
	}
	return beat
}

// end flushes what the sinks take at once and ends all streams.
func (s *shard) end() {
	for s.nextDirty < len(s.dirty) {
		s.flushSome()
	}
	for len(s.streams) > 0 {
		s.drop(s.streams[len(s.streams)-1], Shutdown)
	}
	// Nothing is posted any more but by sinks, whose streams have ended.
	s.takeMail()
}
