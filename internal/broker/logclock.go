package broker

import "time"

// logClock is the clock by which a replica's log stamps its entries, as far as it
// is known. That clock may be another machine's, and far from this one's: the
// ages of events and idempotency keys are judged by it. Between readings it goes
// on as this process's monotonic clock does. It is guarded by Broker.mu.
type logClock struct {
	stamp int64 // what it was, in Unix nanoseconds; 0 where it is not known
	read  int64 // when, as Broker.steady has it
}

// SetClock sets the clock of a replica's log to what it was just now; the zero
// time is ignored.
func (b *Broker) SetClock(at time.Time) {
	if at.IsZero() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = logClock{at.UnixNano(), b.steady()}
}

// logNow returns what time it is by the log's clock, in Unix nanoseconds: the
// time of day, unless the log is a replica. The caller has b.mu.
func (b *Broker) logNow() int64 {
	if b.clock.stamp == 0 {
		return time.Now().UnixNano()
	}
	return b.clock.stamp + b.steady() - b.clock.read
}
