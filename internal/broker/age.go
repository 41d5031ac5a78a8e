package broker

import (
	"math/rand/v2"
	"time"
)

// MaxStreamAge is the maximum value of Config.MaxAge. It is well below the time after
// which a birth repeats.
const MaxStreamAge = 30 * 24 * time.Hour

// birth records when a stream was opened, by Broker.steady, and a random number that
// varies its maximum age. The time is in units of birthUnit, and repeats every 48 days.
type birth uint32

const (
	birthUnit  = int64(250 * time.Millisecond) // the longest tick of a wheel
	randomBits = 8
	maxRandom  = 1<<randomBits - 1
	timeMask   = 1<<(32-randomBits) - 1
)

// newBirth returns the birth of a stream that is being opened now.
func newBirth(now int64) birth {
	return birth(uint32(now/birthUnit)<<randomBits | rand.Uint32()&maxRandom)
}

// random returns the random number, from 0 to maxRandom.
func (b birth) random() int64 { return int64(b & maxRandom) }

// opened returns when the stream was opened, or up to birthUnit later. It must be called
// at the time now, within 48 days.
func (b birth) opened(now int64) int64 {
	passed := (now/birthUnit - int64(b>>randomBits)) & timeMask
	return (now/birthUnit - passed + 1) * birthUnit
}

// oldAt returns when st reaches the maximum age, which must not be 0. That is within a
// tenth of the maximum, in either direction. If the maximum has changed, it is spread over
// a fifth of the new one for streams that are already too old, so that they don't all
// reconnect at once.
func (s *shard) oldAt(st *Stream) int64 {
	most := int64(s.cfg.MaxAge)
	vary := most / 5 * st.birth.random() / maxRandom
	return max(st.birth.opened(s.now)+most-most/10+vary, s.maxAgeSince+vary)
}

// ages reports whether a stream is closed once it has reached the maximum age. Polls are
// answered earlier.
func (s *shard) ages(st *Stream) bool { return s.cfg.MaxAge != 0 && st.phase == phaseOpen }

// closeOld closes the streams that have reached the maximum age, the same way a drain
// does.
func (s *shard) closeOld() {
	for left := s.old; len(left) > 0; {
		next := left[:min(len(left), drainBatch)]
		left = left[len(next):]
		s.drains.draining += len(next)
		s.broker.startDraining(next, MaxAge)
	}
	clear(s.old)
	s.old = s.old[:0]
}
