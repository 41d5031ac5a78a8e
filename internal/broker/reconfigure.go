package broker

import "math/rand/v2"

// Reconfigure makes the broker use cfg, except for Shards: the number of shards
// doesn't change. Streams stay open. A queue is checked against a new QueueBytes
// when the next event is queued, and the history immediately drops whatever
// exceeds its new limits. A policy's SlowConsumer applies to events that are published
// later. With 100,000 topics in the history, publishers wait about 0.1 s for 10 new
// policies, and 0.6 s for 1,000. Retained values that exceed new limits stay, and no
// further ones are accepted.
//
// Shards apply the change in order with the other items in their mailboxes. Once
// the broker is closing, Reconfigure does nothing.
func (b *Broker) Reconfigure(cfg Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}

	cfg.Shards = len(b.shards)
	b.cfg.Store(&cfg)
	b.replies.window = cfg.IdempotencyWindow
	b.retained.limits = cfg.Retain
	b.history.reconfigure(cfg.History, newPolicies(cfg.Topics), b.logNow())
	if !b.replica {
		b.replies.forget(b.logNow())
	}
	for _, s := range b.shards {
		s.post(item{kind: reconfigure})
	}
}

// reconfigure applies the broker's current configuration.
func (s *shard) reconfigure() {
	before := s.cfg
	s.cfg = s.broker.cfg.Load()
	s.maxTakenBytes = maxTakenBytes(s.cfg)
	if s.cfg.MaxAge != before.MaxAge {
		s.maxAgeSince = s.now
	}
	if s.cfg.Heartbeat != before.Heartbeat || s.cfg.MaxAge != before.MaxAge {
		s.rewind(int64(before.Heartbeat))
	}
}

// rewind moves all streams to a wheel for the new heartbeat interval and maximum age.
// No stream waits longer for its next heartbeat than it would have with the old
// interval (the parameter before), because its proxy may be about to time out. Streams that
// would be due at the same time are spread out.
func (s *shard) rewind(before int64) {
	s.wheel = newWheel(s.cfg.Heartbeat)
	s.ticker.Reset(s.wheel.tick)
	for _, st := range s.streams {
		if st.poll() != nil {
			continue // polls have a timer of their own
		}
		left := min(st.lastSent+before-s.now, int64(s.cfg.Heartbeat))
		s.wheel.add(st, s.now, s.untilDue(st, 1+rand.Int64N(max(left, 1))))
	}
}
