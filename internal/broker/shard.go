package broker

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/peald/peald/internal/eventstream"
)

// shard owns streams. Everything in it but the mailbox and the figures belongs
// to the goroutine that runs it.
type shard struct {
	broker *Broker
	number int
	cfg    *Config // what it works by, until it is told to take the broker's new one

	mail mailbox

	// What has been taken out of the mailbox since all streams that had
	// something to write then had their turn.
	takenEvents, takenBytes int
	maxTaken                int
	marks, flushes          uint64 // how often streams became dirty, and were written
	marked                  uint64 // marks, when too much had been taken

	streams   []*Stream
	dirty     []*Stream // have something to write and a sink that can take it
	nextDirty int
	wheel     wheel
	ticker    *time.Ticker // of the wheel
	stuck     []stuckSince // sinks that take nothing, the longest first
	spare     spareQueues
	pieces    [][]byte // scratch of flush
	replayed  []*event // scratch of catchUp
	now       int64    // Unix nanoseconds, as of this turn
	heartbeat *event   // of this tick
	closing   bool
	drains    drains
	begun     int // as Broker.begun, once what was posted then was taken

	taken   int64 // events taken out of the mailbox since the start
	delays  delays
	figures figures
}

type itemKind uint8

const (
	deliver itemKind = iota
	join
	ready
	hangUp
	disconnect
	reconfigure
	beginDrain
	endDrain
	farewell
	cutAll
	shutdown
)

// item is what the others tell a shard.
type item struct {
	kind   itemKind
	event  *event  // deliver; join: the stream's preamble
	group  *group  // deliver, disconnect: whose streams; nil for all of the shard
	stream *Stream // join, ready, hangUp, farewell
	drain  *drain  // beginDrain, endDrain
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
	maxPieces = 1024 // IOV_MAX of Linux
	maxWrite  = 256 << 10
)

func newShard(b *Broker, number int, latencies []int64) *shard {
	cfg := b.cfg.Load()
	return &shard{
		broker:   b,
		number:   number,
		cfg:      cfg,
		mail:     newMailbox(),
		maxTaken: maxTaken(cfg),
		wheel:    newWheel(cfg.Heartbeat),
		now:      b.steady(),
		delays:   delays{spent: newHistogram(latencies)},
	}
}

func maxTaken(cfg *Config) int { return min(cfg.QueueBytes/8, maxWrite/2) }

func (s *shard) post(it item) { s.mail.post(it) }

// run is the shard's goroutine.
func (s *shard) run() {
	s.ticker = time.NewTicker(s.wheel.tick)
	defer s.ticker.Stop()
	for !s.closing {
		if s.nextDirty < len(s.dirty) || s.mail.leftover() {
			select {
			case <-s.ticker.C:
				s.onTick()
			case <-s.drains.due():
				s.cutLeaving()
			default:
			}
		} else {
			s.measure()
			select {
			case <-s.mail.wake:
			case <-s.drains.due():
				s.cutLeaving()
			case <-s.ticker.C:
				s.onTick()
			}
		}
		s.now = s.broker.steady()
		s.delays.measure(time.Now().UnixNano())
		s.takeMail()
		s.shed()
		s.flushSome()
	}
	s.end()
}

// measure looks at the clock for what has been written, if anything has.
func (s *shard) measure() {
	if len(s.delays.written) > 0 {
		s.delays.measure(time.Now().UnixNano())
	}
}

// takeMail handles what is in the mailbox, and returns whether that was all.
//
// It takes in no more than every stream can be rid of in one write, and goes on
// when each has had its turn: what a publisher is faster at than the shard waits
// in the mailbox, where it holds up publishers, and not in the queues, where it
// would look as if the clients were slow.
func (s *shard) takeMail() (all bool) {
	defer s.tellLag()
	for {
		if s.takenEvents >= maxPieces/2 || s.takenBytes >= s.maxTaken {
			if s.flushes < s.marked {
				return false
			}
			s.takenEvents, s.takenBytes = 0, 0
		}
		it, ok := s.mail.take()
		if !ok {
			return true
		}
		if it.kind == deliver {
			s.taken++
			s.takenEvents++
			s.takenBytes += len(it.event.frame.chunk)
		}
		s.handle(it)
		if s.takenEvents >= maxPieces/2 || s.takenBytes >= s.maxTaken {
			s.marked = s.marks
		}
	}
}

// tellLag puts into the figures how far behind its mailbox the shard is.
func (s *shard) tellLag() {
	if s.figures.taken.Load() != s.taken {
		s.figures.taken.Store(s.taken)
	}
	oldest := int64(0)
	if s.mail.leftover() {
		// Only what is for streams is late; the rest waits for it.
		if oldest = s.figures.oldest.Load(); s.mail.read[s.mail.next].kind == deliver {
			oldest = s.mail.read[s.mail.next].event.at
		}
	}
	if s.figures.oldest.Load() != oldest {
		s.figures.oldest.Store(oldest)
	}
}

func (s *shard) handle(it *item) {
	switch it.kind {
	case deliver:
		if it.group != nil {
			it.group.each(func(st *Stream) { s.deliver(st, it.event) })
		} else {
			// Backwards, since a full queue may take its stream out of the
			// slice, and put the last into its place.
			for _, st := range slices.Backward(s.streams) {
				s.deliver(st, it.event)
			}
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
	case disconnect:
		it.group.each(func(st *Stream) { s.finish(st, Disconnected) })
	case reconfigure:
		s.reconfigure()
	case beginDrain:
		s.beginDrain(it.drain)
	case endDrain:
		s.endDrain(it.drain)
	case farewell:
		s.drains.called--
		if !it.stream.closed {
			s.part(it.stream, it.stream.why)
		}
	case cutAll:
		s.begun++
		for _, st := range slices.Backward(s.streams) {
			s.finish(st, Suspended)
		}
		for _, st := range slices.Backward(s.drains.leaving) {
			s.drop(st, Suspended)
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
		st.account.group.add(st)
		s.figures.authenticated.Add(1)
	}
	s.figures.connections.Add(1)
	s.figures.connected.Add(1)
	if len(preamble.frame.chunk) > 0 {
		s.enqueue(st, preamble)
	}
	s.enqueue(st, s.greeting(st.cursor, st.resume))
	st.resume = nil
	if st.behind {
		s.catchUp(st)
	}
	if st.topics != nil {
		for _, g := range st.topics.groups {
			if g != nil {
				g.add(st)
			}
		}
	}
	if st.gone {
		s.drop(st, HungUp)
		return
	}
	// A random phase spreads the heartbeats of streams that came together.
	beat := int64(s.cfg.Heartbeat)
	s.wheel.add(st, s.now, s.untilDue(st, beat/4+1+rand.Int64N(3*beat/4)))
}

// finish closes a stream in good order: what waits for it goes out as far as
// its connection takes it at once, and then the end of the body. Whatever it
// doesn't take, the client misses and resumes.
func (s *shard) finish(st *Stream, why Reason) {
	if !st.closed && !st.blocked && !st.leaving {
		if st.queue.len() > 0 {
			s.flush(st)
		}
		// Where the queue is larger than one write, the body ends between two
		// events all the same.
		if q := &st.queue; !st.closed && !st.blocked && q.chunked && q.offset == 0 {
			_, _ = st.sink.Write([][]byte{[]byte(lastChunk)})
		}
	}
	s.drop(st, why)
}

// drop ends a stream. It does nothing to one that has ended.
func (s *shard) drop(st *Stream, why Reason) {
	if st.closed {
		return
	}
	st.closed = true
	st.sink.Close(why)
	st.sink = nil
	why = st.CloseReason(why)
	s.figures.disconnected[why].Add(1)
	if lost := st.queue.waiting(); lost > 0 {
		s.figures.dropped[why].Add(int64(lost))
	}
	s.figures.queuedBytes.Add(int64(-st.queue.bytes))
	st.queue.release(&s.spare)

	s.unlist(st)
	s.figures.connections.Add(-1)
	if st.account != nil {
		s.figures.authenticated.Add(-1)
		st.account.group.oneEnded()
	}
	if st.topics != nil {
		for _, g := range st.topics.groups {
			if g != nil {
				g.oneEnded()
			}
		}
	}
	if !st.left {
		s.broker.leave(st, why)
	}
}

// onTick does what is due: heartbeats, ends of tokens, and sinks that have
// taken nothing for too long.
func (s *shard) onTick() {
	s.now = s.broker.steady()
	// What is at or before the head has been posted, and is in the queues once
	// the mail is taken: so the mark is ahead of nothing for a stream whose
	// queue is empty.
	head := s.broker.head()
	id := ""
	if s.takeMail() {
		id = s.position(head)
	}
	s.heartbeat = &event{frame: sealFrame(eventstream.AppendMark(newBlock(), id), chunkRoom)}
	s.wheel.advance(s.now, s.onDue)
	oldest := s.now - int64(s.cfg.WriteTimeout)
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
	beat := int64(s.cfg.Heartbeat)
	switch {
	case st.closed:
		return 0
	case st.expires != 0 && st.expires <= time.Now().UnixNano():
		s.finish(st, Expired)
		return 0
	case st.queue.len() == 0 && !st.behind && s.now-st.lastSent > beat/4:
		s.enqueue(st, s.heartbeat)
	}
	return s.untilDue(st, beat)
}

// untilDue is the time until a stream's next turn on the wheel, which is no
// later than the end of its token.
func (s *shard) untilDue(st *Stream, wait int64) int64 {
	if st.expires != 0 {
		wait = min(wait, st.expires-time.Now().UnixNano())
	}
	return max(wait, 1)
}
