package broker

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/peald/peald/internal/eventstream"
)

const (
	// drainPace is how many streams a drain ends in a second at least. Where
	// they are few, spreading them further would spare nobody anything.
	drainPace = 200

	// drainTick is how often a shard that drains looks whose turn it is.
	drainTick = 10 * time.Millisecond

	// drainStride bounds how much of a drain's time a shard takes at once
	// that was held up.
	drainStride = 50 * time.Millisecond

	// dismissTurn bounds how many streams leave the order in one go, since
	// publishers wait for it.
	dismissTurn = 256

	// farewellTimeout is how long the connection of a stream that is to end
	// may take nothing of what still waits for it.
	farewellTimeout = 2 * time.Second
)

// Drain ends all streams that are open, and those that are opened meanwhile,
// spread evenly over a time, or at 200 a second where that is less. Each gets
// what was published before its turn, as far as its connection takes it, and
// as its last block a time to wait, other than its neighbours', until it
// reconnects. Events go on to those that are left.
//
// It returns once no stream is left, ErrClosed if the broker closes before, or
// ctx's error if that ends before; whose turn has not come then goes on. The
// broker itself stays as it is: who is to come back elsewhere has to be refused
// by the caller.
func (b *Broker) Drain(ctx context.Context, over time.Duration) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	d := b.sendAway(over, Drained)
	b.mu.Unlock()
	select {
	case <-d.gone:
		if d.broken.Load() {
			return ErrClosed
		}
		return nil
	case <-ctx.Done():
		b.stay(d)
		return fmt.Errorf("ending streams: %w", ctx.Err())
	}
}

// sendAway begins a drain, for whoever has b.mu.
func (b *Broker) sendAway(over time.Duration, why Reason) *drain {
	d := &drain{why: why, over: min(over, time.Duration(b.total)*time.Second/drainPace), gone: make(chan struct{})}
	d.left.Store(int32(len(b.shards)))
	for _, s := range b.shards {
		s.post(item{kind: beginDrain, drain: d})
	}
	return d
}

// stay has the streams go on whose turn in d has not come.
func (b *Broker) stay(d *drain) {
	for _, s := range b.shards {
		s.post(item{kind: endDrain, drain: d})
	}
}

// drain is a call of Drain, or of Suspend.
type drain struct {
	why    Reason
	over   time.Duration
	left   atomic.Int32  // shards that have streams
	broken atomic.Bool   // the broker closed first
	gone   chan struct{} // closed when no shard is left
}

// shedding is a shard's share of a drain.
type shedding struct {
	drain   *drain
	begun   int64 // Unix nanoseconds
	streams int   // that the shard had then
	phase   float64
	last    int64 // when keep was called last
	passed  int64 // nanoseconds of drain.over
}

// keep is how many streams the shard may still have. The phase keeps shards
// from ending theirs at the same moments. A shard that was held up makes good
// for it half as fast again as it goes on, and not in one go.
func (d *shedding) keep(now int64) int {
	d.passed = min(now-d.begun, d.passed+min(now-d.last, int64(drainStride))*3/2)
	d.last = now
	if d.passed >= int64(d.drain.over) {
		return 0
	}
	return int(float64(d.streams)*(1-float64(d.passed)/float64(d.drain.over)) + d.phase)
}

// drains are those that a shard takes part in.
type drains struct {
	all     []shedding
	tick    *time.Ticker // nil while there are none
	leaving []*Stream    // have their last block in the queue
	called  int          // dismissed, and not yet seen so
}

// due fires when a drain is to be looked at, and never where there is none.
func (d *drains) due() <-chan time.Time {
	if d.tick == nil {
		return nil
	}
	return d.tick.C
}

func (s *shard) beginDrain(d *drain) {
	s.drains.all = append(s.drains.all, shedding{drain: d, begun: s.now, streams: len(s.streams), phase: rand.Float64(), last: s.now})
	if s.drains.tick == nil {
		s.drains.tick = time.NewTicker(drainTick)
	}
}

func (s *shard) endDrain(d *drain) {
	s.drains.all = slices.DeleteFunc(s.drains.all, func(at shedding) bool { return at.drain == d })
	s.stopDrainTick()
}

func (s *shard) stopDrainTick() {
	if s.drains.tick != nil && len(s.drains.all) == 0 && len(s.drains.leaving) == 0 {
		s.drains.tick.Stop()
		s.drains.tick = nil
	}
}

// cutLeaving cuts the streams whose connections don't take their last bytes.
func (s *shard) cutLeaving() {
	for _, st := range slices.Backward(s.drains.leaving) {
		if st.blocked && s.now-st.stuck >= int64(farewellTimeout) {
			s.drop(st, WriteTimeout)
		}
	}
}

// shed dismisses the streams whose turn it is, and tells drains that are over.
func (s *shard) shed() {
	if s.drains.tick == nil {
		return
	}
	if s.drains.called == 0 && len(s.drains.all) > 0 {
		keep, why := len(s.streams), Drained
		for i := range s.drains.all {
			at := &s.drains.all[i]
			if k := at.keep(s.now); k < keep {
				keep, why = k, at.drain.why
			}
		}
		if going := s.streams[max(keep, len(s.streams)-dismissTurn):]; len(going) > 0 {
			s.drains.called = len(going)
			for _, st := range going {
				st.why = why
			}
			s.broker.dismiss(going)
		}
	}
	if len(s.streams)+len(s.drains.leaving) == 0 {
		s.finishDrains(false)
	}
	s.stopDrainTick()
}

// finishDrains tells all drains that the shard has no stream left.
func (s *shard) finishDrains(broken bool) {
	for _, at := range s.drains.all {
		if broken {
			at.drain.broken.Store(true)
		}
		if at.drain.left.Add(-1) == 0 {
			close(at.drain.gone)
		}
	}
	s.drains.all = nil
}

// dismiss takes streams of one shard out of the order, as one step of it. Their
// shard learns of it behind all that was published before, so that they get
// what they were counted for.
func (b *Broker) dismiss(streams []*Stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, st := range streams {
		st.left = true
		b.uncount(st, st.why)
		st.shard.post(item{kind: farewell, stream: st})
	}
}

// part has a stream end once all that waits for it is out. Nothing new is for
// it any more.
func (s *shard) part(st *Stream, why Reason) {
	s.unlist(st)
	st.leaving, st.why = true, why
	st.stuck = s.now // from here on counts that it takes nothing
	st.index = int32(len(s.drains.leaving))
	s.drains.leaving = append(s.drains.leaving, st)
	if !st.behind {
		s.sayFarewell(st)
	}
}

// sayFarewell queues the last block of a stream that leaves.
func (s *shard) sayFarewell(st *Stream) {
	st.cursor = math.MaxUint64
	s.enqueue(st, &event{frame: sealFrame(eventstream.AppendEnd(s.appendRetry(newBlock())), chunkRoom).last()})
}

// unlist takes a stream out of the shard's streams, or of those that leave.
func (s *shard) unlist(st *Stream) {
	list := &s.streams
	if st.leaving {
		list = &s.drains.leaving
	}
	last := len(*list) - 1
	(*list)[st.index] = (*list)[last]
	(*list)[st.index].index = st.index
	(*list)[last] = nil
	*list = (*list)[:last]
	st.index = -1
}

// end flushes what the sinks take at once and ends all streams.
func (s *shard) end() {
	for _, st := range slices.Backward(s.streams) {
		s.part(st, Shutdown)
	}
	for s.nextDirty < len(s.dirty) {
		s.flushSome()
	}
	s.measure()
	for _, st := range slices.Backward(s.drains.leaving) {
		s.drop(st, Shutdown)
	}
	// Nothing is posted any more but by sinks, whose streams have ended.
	s.takeMail()
	s.finishDrains(true)
	s.stopDrainTick()
}
