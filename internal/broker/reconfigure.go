package broker

import "math/rand/v2"

// Reconfigure has the broker go on by cfg, of which Shards counts for nothing:
// there are as many as there were. Streams stay as they are. What waits for one
// of them is held against the new QueueBytes with the next event for it, and
// the log lets go at once what is past its new bounds.
//
// Publishers and streams follow each in their own time, within what is in a
// shard's mailbox. Once the broker is closing nothing changes.
func (b *Broker) Reconfigure(cfg Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	cfg.Shards = len(b.shards)
	b.cfg.Store(&cfg)
	b.history.bounds = cfg.History
	b.replies.window = cfg.IdempotencyWindow
	b.history.evict(b.logNow())
	if !b.replica {
		b.replies.forget(b.logNow())
	}
	for _, s := range b.shards {
		s.post(item{kind: reconfigure})
	}
}

// reconfigure takes over what the broker was last told.
func (s *shard) reconfigure() {
	before := s.cfg.Heartbeat
	s.cfg = s.broker.cfg.Load()
	s.maxTaken = maxTaken(s.cfg)
	if s.cfg.Heartbeat != before {
		s.rewind(int64(before))
	}
}

// rewind puts all streams onto a wheel for the new time between heartbeats. No
// stream waits longer for its next turn than it would have by the old one: what
// is in front of it may be about to give it up. Those that wait for the same
// are spread.
func (s *shard) rewind(before int64) {
	s.wheel = newWheel(s.cfg.Heartbeat)
	s.ticker.Reset(s.wheel.tick)
	for _, st := range s.streams {
		left := min(st.lastSent+before-s.now, int64(s.cfg.Heartbeat))
		s.wheel.add(st, s.now, s.untilDue(st, 1+rand.Int64N(max(left, 1))))
	}
}
