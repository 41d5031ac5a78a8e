package broker

import "time"

// logClock estimates the clock that stamps the entries of a replica's event log.
// That clock may belong to another machine and differ widely from the local one.
// Since entries carry timestamps from that clock, the ages of events and
// idempotency keys must be computed with it, never with the local clock. Between
// readings, the estimate advances with the monotonic clock. It is guarded by
// Broker.mu.
type logClock struct {
	stamp int64 // the last reading, in Unix nanoseconds; 0 if unknown
	read  int64 // when it was read, by Broker.steady
}

// SetClock records that the clock of a replica's log now shows the given time. It
// ignores the zero time.
func (b *Broker) SetClock(at time.Time) {
	if at.IsZero() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = logClock{at.UnixNano(), b.steady()}
}

// logNow returns the current time by the log's clock, in Unix nanoseconds. It
// is the local wall clock unless the clock of a replica's log is known. The
// caller holds b.mu.
func (b *Broker) logNow() int64 {
	if b.clock.stamp == 0 {
		return time.Now().UnixNano()
	}
	return b.clock.stamp + b.steady() - b.clock.read
}
