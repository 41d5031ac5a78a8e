package broker

import (
	"bytes"
	"slices"
	"time"

	"github.com/peald/peald/internal/eventstream"
)

// shard owns streams. All its fields except the mailbox and the counters belong
// to the goroutine that runs it.
type shard struct {
	broker *Broker
	number int
	cfg    *Config // replaced by a reconfigure item

	mail mailbox

	// The fields below limit how much is taken out of the mailbox before every
	// dirty stream has been written once: see takeMail.
	takenEvents, takenBytes int
	maxTakenBytes           int
	dirtied, flushed        uint64 // how many times streams became dirty and were written
	resumeAt                uint64 // the value of flushed at which mail is taken again

	streams   []*Stream
	dirty     []*Stream // have something to write and a sink that can accept it
	nextDirty int       // index of the next stream to write
	wheel     wheel
	ticker    *time.Ticker // of the wheel
	blocked   blockedWrites
	spare     spareQueues
	pieces    [][]byte     // scratch space of flush
	replayed  []*event     // scratch space of catchUp
	scratch   bytes.Buffer // scratch space of gzipFrame and envelopeFrame
	envelopes jointEnvelopes
	unflushed []*Stream // have a Flusher that has accepted bytes

	nextUnflushed int    // index of the next of them to flush
	now           int64  // time of this turn, by Broker.steady
	heartbeat     *event // of this tick
	closing       bool
	drains        drains
	old           []*Stream // scratch space of onTick: those that have reached the maximum age
	maxAgeSince   int64     // when Config.MaxAge was last changed
	polls         pollTimers
	generation    int // Broker.generation as of the last item taken

	taken    int64 // events taken out of the mailbox since the broker started
	delays   delays
	counters counters
}

type itemKind uint8

const (
	deliver itemKind = iota
	join
	ready
	hangUp
	disconnect
	reconfigure
	task
	drained
	closeAll
	shutdown
)

// item is a message to a shard.
type item struct {
	kind   itemKind
	alone  bool    // deliver: only to streams of the group that subscribe to nothing but its topic
	event  *event  // deliver; join: the stream's preamble
	group  *group  // deliver, disconnect: the streams; nil for all of the shard
	stream *Stream // join, ready, hangUp, drained
	task   func(*shard)
}

const (
	// flushTurn is the number of streams written between two checks of the
	// mailbox. It is small enough that publishers wait only a fraction of a
	// millisecond, and large enough that the checks cost practically nothing.
	flushTurn = 64
	// maxPieces and maxWrite limit one write, so that one stream's large queue
	// doesn't delay the other streams.
	maxPieces = 1024 // IOV_MAX on Linux
	maxWrite  = 256 << 10
)

func newShard(b *Broker, number int, latencies []int64) *shard {
	cfg := b.cfg.Load()
	return &shard{
		broker:        b,
		number:        number,
		cfg:           cfg,
		mail:          newMailbox(),
		maxTakenBytes: maxTakenBytes(cfg),
		wheel:         newWheel(cfg.Heartbeat),
		now:           b.steady(),
		delays:        delays{latency: newHistogram(latencies)},
	}
}

func maxTakenBytes(cfg *Config) int { return min(cfg.QueueBytes/8, maxWrite/2) }

func (s *shard) post(it item) { s.mail.post(it) }

// run is the shard's goroutine.
func (s *shard) run() {
	s.ticker = time.NewTicker(s.wheel.tick)
	defer s.ticker.Stop()

	for !s.closing {
		if s.nextDirty < len(s.dirty) || s.hasUnflushed() || s.mail.hasUnread() {
			select {
			case <-s.ticker.C:
				s.onTick()
			case <-s.drains.due():
				s.closeStuck()
			default:
			}
		} else {
			s.measure()
			select {
			case <-s.mail.wake:
			case <-s.drains.due():
				s.closeStuck()
			case <-s.ticker.C:
				s.onTick()
			}
		}

		s.now = s.broker.steady()
		s.delays.measure(time.Now().UnixNano())
		s.takeMail()
		s.advanceDrains()
		s.flushSome()
		s.envelopes.release()
	}
	s.shutDown()
}

// measure records the delays of the events written since the last call, if any.
func (s *shard) measure() {
	if len(s.delays.written) > 0 {
		s.delays.measure(time.Now().UnixNano())
	}
}

// takeMail handles the items in the mailbox and reports whether it handled all
// of them.
//
// It takes at most as many events as a stream can send in one write, and takes more
// only when every dirty stream has been written to. If a publisher is faster than the
// shard, its events wait in the mailbox, where they slow down publishers. If they were
// in the queues instead, they would make clients look slow.
func (s *shard) takeMail() (all bool) {
	defer s.reportLag()
	for {
		if s.takenEvents >= maxPieces/2 || s.takenBytes >= s.maxTakenBytes {
			if s.flushed < s.resumeAt {
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
			e := it.event
			s.handle(it)
			s.takenBytes += e.largest()
		} else {
			s.handle(it)
		}

		if s.takenEvents >= maxPieces/2 || s.takenBytes >= s.maxTakenBytes {
			s.resumeAt = s.dirtied
		}
	}
}

// reportLag updates the counters that show how far behind its mailbox the shard is.
func (s *shard) reportLag() {
	if s.counters.taken.Load() != s.taken {
		s.counters.taken.Store(s.taken)
	}

	oldest := int64(0)
	if s.mail.hasUnread() {
		// Only events have an age. If the next item is not an event, keep the
		// last age.
		if oldest = s.counters.oldest.Load(); s.mail.read[s.mail.next].kind == deliver {
			oldest = s.mail.read[s.mail.next].event.at
		}
	}
	if s.counters.oldest.Load() != oldest {
		s.counters.oldest.Store(oldest)
	}
}

func (s *shard) handle(it *item) {
	switch it.kind {
	case deliver:
		switch {
		case it.alone:
			it.group.each(func(st *Stream) {
				if !st.topics.several() {
					s.deliver(st, it.event)
				}
			})
		case it.group != nil:
			it.group.each(func(st *Stream) { s.deliver(st, it.event) })
		default:
			// Iterate backwards, because a full queue may remove its stream from
			// the slice and move the last stream to its index.
			for _, st := range slices.Backward(s.streams) {
				s.deliver(st, it.event)
			}
		}
		s.broker.taken(it.event)
	case join:
		if p := it.stream.poll(); p != nil {
			s.openPoll(it.stream, p)
		} else {
			s.open(it.stream, it.event)
		}
	case ready:
		if st := it.stream; st.writeBlocked && st.phase != phaseClosed {
			st.writeBlocked = false
			s.markDirty(st)
		}
	case hangUp:
		s.hangUp(it.stream)
	case disconnect:
		it.group.each(func(st *Stream) { s.flushAndClose(st, Disconnected) })
	case reconfigure:
		s.reconfigure()
	case task:
		it.task(s)
	case drained:
		s.drains.draining--
		if it.stream.phase == phaseDraining {
			s.beginClosing(it.stream, phaseDrained)
		}
	case closeAll:
		s.generation++
		for _, st := range slices.Backward(s.streams) {
			s.flushAndClose(st, Suspended)
		}
		for _, st := range slices.Backward(s.drains.closing) {
			s.close(st, Suspended)
		}
	case shutdown:
		s.closing = true
	}
}

// onTick does what is due at a tick of the wheel: heartbeats, the expiry of
// tokens, the maximum age of streams, and timeouts of blocked writes.
func (s *shard) onTick() {
	s.now = s.broker.steady()

	// Everything up to the head has been posted, and is in the queues once the
	// mail is taken. So for a stream with an empty queue, the mark skips
	// nothing.
	head := s.broker.head()
	id := ""
	if s.takeMail() {
		id = s.position(head.seq)
		s.polls.passed = head
	}
	s.heartbeat = &event{frame: sealFrame(eventstream.AppendMark(newBlock(), id), chunkRoom)}
	s.wheel.advance(s.now, s.onDue)
	s.closeOld()
	s.answerDue()

	s.closeStalled(s.now - int64(s.cfg.WriteTimeout))
	s.spare.trim()
}

// onDue handles a stream's turn on the wheel, and returns the time until its
// next turn, or 0 if the stream is closed.
func (s *shard) onDue(st *Stream) int64 {
	beat := int64(s.cfg.Heartbeat)
	switch {
	case st.phase == phaseClosed:
		return 0
	case st.expires != 0 && st.expires <= time.Now().UnixNano():
		s.flushAndClose(st, Expired)
		return 0
	case s.ages(st) && s.oldAt(st) <= s.now:
		s.old = append(s.old, st)
		return beat
	case st.queue.len() == 0 && !st.catchingUp && s.now-st.lastSent > beat/4:
		s.enqueue(st, s.heartbeat)
	}
	return s.untilDue(st, beat)
}

// untilDue returns the time until a stream's next turn on the wheel: wait
// nanoseconds, or less if its token expires or it reaches its maximum age earlier.
func (s *shard) untilDue(st *Stream, wait int64) int64 {
	if st.expires != 0 {
		wait = min(wait, st.expires-time.Now().UnixNano())
	}
	if s.ages(st) {
		wait = min(wait, s.oldAt(st)-s.now)
	}
	return max(wait, 1)
}
