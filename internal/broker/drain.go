package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// drainPace is the minimum number of streams that a drain closes per
	// second. With few streams, spreading their reconnections further would
	// help nobody.
	drainPace = 200

	// drainTick is how often a shard checks which streams a drain closes next.
	drainTick = 10 * time.Millisecond

	// drainStride limits how far a delayed shard advances a drain at once.
	drainStride = 50 * time.Millisecond

	// drainBatch limits how many streams stop being counted each time the lock is held,
	// since publishers wait for it.
	drainBatch = 256

	// closingTimeout limits how long the connection of a closing stream may go
	// without accepting any bytes while bytes are queued for it.
	closingTimeout = 2 * time.Second
)

// Drain closes all streams that are open, and those that are opened in the
// meantime. It spreads them evenly over the given time, or closes 200 a second if
// that is faster. Before a stream is closed, it gets the events published before
// its turn, or as many of them as its connection accepts. A last block with a
// randomized reconnection time follows. Events continue to go to the remaining
// streams.
//
// Drain returns when no stream is left. It returns ErrClosed if the broker closes
// first, and ctx's error if ctx ends first. In that case, streams whose turn hasn't
// come stay open. The broker continues to accept streams: the caller must reject
// clients that should reconnect elsewhere.
func (b *Broker) Drain(ctx context.Context, over time.Duration) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	d := b.startDrain(over, Drained)
	b.mu.Unlock()

	select {
	case <-d.done:
		if d.interrupted.Load() {
			return ErrClosed
		}
		return nil
	case <-ctx.Done():
		b.cancelDrain(d)
		return fmt.Errorf("draining streams: %w", ctx.Err())
	}
}

// startDrain starts a drain. The caller holds b.mu.
func (b *Broker) startDrain(over time.Duration, why Reason) *drain {
	d := &drain{why: why, over: min(over, time.Duration(b.total)*time.Second/drainPace), done: make(chan struct{})}
	d.shards.Store(int32(len(b.shards)))
	for _, s := range b.shards {
		s.post(item{kind: task, task: func(s *shard) { s.beginDrain(d) }})
	}
	return d
}

// cancelDrain keeps open the streams whose turn in d has not come.
func (b *Broker) cancelDrain(d *drain) {
	for _, s := range b.shards {
		s.post(item{kind: task, task: func(s *shard) { s.endDrain(d) }})
	}
}

// drain is one call to Drain or Suspend.
type drain struct {
	why         Reason
	over        time.Duration
	shards      atomic.Int32  // shards that still have streams
	interrupted atomic.Bool   // the broker closed first
	done        chan struct{} // closed when no shard has streams
}

// drainShare is one shard's share of a drain. Its times come from
// Broker.steady.
type drainShare struct {
	drain   *drain
	streams int     // streams of the shard when the drain began
	phase   float64 // random, from 0 to 1
	begun   int64   // when the drain began
	last    int64   // when keep was last called
	passed  int64   // nanoseconds of drain.over that have passed
}

// keep returns how many streams the shard may still have. The random phase
// keeps shards from closing streams in lockstep. A delayed shard catches up at one
// and a half times the normal pace, rather than all at once.
func (d *drainShare) keep(now int64) int {
	d.passed = min(now-d.begun, d.passed+min(now-d.last, int64(drainStride))*3/2)
	d.last = now
	if d.passed >= int64(d.drain.over) {
		return 0
	}
	return int(float64(d.streams)*(1-float64(d.passed)/float64(d.drain.over)) + d.phase)
}

// drains holds the drains in progress on a shard.
type drains struct {
	shares   []drainShare
	tick     *time.Ticker // nil while there are no drains
	closing  []*Stream    // streams whose phase is closing
	draining int          // streams whose drained item is still in the mailbox
}

// due returns a channel that fires when drains must be advanced. It returns nil
// if there are none.
func (d *drains) due() <-chan time.Time {
	if d.tick == nil {
		return nil
	}
	return d.tick.C
}

func (s *shard) beginDrain(d *drain) {
	s.drains.shares = append(s.drains.shares, drainShare{drain: d, begun: s.now, streams: len(s.streams), phase: rand.Float64(), last: s.now})
	if s.drains.tick == nil {
		s.drains.tick = time.NewTicker(drainTick)
	}
}

func (s *shard) endDrain(d *drain) {
	s.drains.shares = slices.DeleteFunc(s.drains.shares, func(share drainShare) bool { return share.drain == d })
	s.stopDrainTick()
}

func (s *shard) stopDrainTick() {
	if s.drains.tick != nil && len(s.drains.shares) == 0 && len(s.drains.closing) == 0 {
		s.drains.tick.Stop()
		s.drains.tick = nil
	}
}

// closeStuck closes the closing streams whose connections don't accept their
// last bytes.
func (s *shard) closeStuck() {
	for _, st := range slices.Backward(s.drains.closing) {
		if st.stalled && s.now-st.blockedSince >= int64(closingTimeout) {
			s.close(st, WriteTimeout)
		}
	}
}

// advanceDrains starts to drain the streams whose turn has come, and finishes
// the drains if the shard has no streams left.
func (s *shard) advanceDrains() {
	if s.drains.tick == nil {
		return
	}

	if s.drains.draining == 0 && len(s.drains.shares) > 0 {
		keep, why := len(s.streams), Drained
		for i := range s.drains.shares {
			share := &s.drains.shares[i]
			if k := share.keep(s.now); k < keep {
				keep, why = k, share.drain.why
			}
		}
		if next := s.streams[max(keep, len(s.streams)-drainBatch):]; len(next) > 0 {
			s.drains.draining = len(next)
			s.broker.startDraining(next, why)
		}
	}

	if len(s.streams)+len(s.drains.closing) == 0 {
		s.finishDrains(false)
	}
	s.stopDrainTick()
}

// finishDrains records in all drains that the shard has no streams left, or that
// the broker is closing.
func (s *shard) finishDrains(interrupted bool) {
	for _, share := range s.drains.shares {
		if interrupted {
			share.drain.interrupted.Store(true)
		}
		if share.drain.shards.Add(-1) == 0 {
			close(share.drain.done)
		}
	}
	s.drains.shares = nil
}
