package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrSuspended is returned while the broker accepts no streams.
var ErrSuspended = errors.New("broker is suspended")

// ErrBehind is returned if a client has seen a later event than this replica.
var ErrBehind = errors.New("replica is behind the client")

// UnavailableError is a temporary error from publishing a message. The message may
// have been published anyway if the failure occurred late.
type UnavailableError struct {
	// Reason describes the error to the publisher.
	Reason string
}

func (e *UnavailableError) Error() string { return e.Reason }

// Entry is a message with its position in a replica's event log.
type Entry struct {
	// Seq must be greater than the sequence number of every earlier entry. It
	// needn't be the next number.
	Seq uint64
	// At is the time at which the log accepted the message, by the log's clock.
	At time.Time
	// Own means that the message was published, and is counted, on this node.
	Own bool
	// Retain holds the limits for retained values on the node that published the
	// message.
	Retain Retain
	// RetainedByPolicy means that a policy on that node retains the message for its
	// Audience. TopicsRetainedByPolicy has the same for each of its Topics; nil if no
	// policy retains it for any of them.
	RetainedByPolicy       bool
	TopicsRetainedByPolicy []bool
	// Verdict records what the replica that published the message knew about
	// its idempotency key.
	Verdict Verdict
	// Message must be valid.
	Message Message
}

// Begin starts a new event log on a replica and discards the previous one. first is
// the lowest sequence number that an entry in the new log may have. An epoch
// consists of digits and lowercase letters and identifies a log: no two events may
// have the same epoch and sequence number. Apply must not be called concurrently.
//
// Begin suspends the broker, so that no stream joins before the replica has
// caught up. It closes the streams that are still open, because the events that
// they haven't received yet are gone.
func (b *Broker) Begin(epoch string, first uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.suspended = true
		b.endSuspension()
		b.generation++
		for _, s := range b.shards {
			s.post(item{kind: closeAll})
		}
	}

	b.ids.Store(newIDFormat(epoch))
	b.seq, b.passed = first-1, first-1
	b.history = newHistory(b.cfg.Load().History, b.history.policies, b.digester, time.Now().UnixNano())
	b.history.first = first
	b.replies = newReplies(b.cfg.Load().IdempotencyWindow)
	b.retained = newRetained(b.cfg.Load().Retain, b.digester)
	b.clock = logClock{}
}

// SetLogStart records that a replica's log holds all events that were published at
// or after the given time, by the log's clock. Until it is called, that is assumed to
// be the time of Begin. It must be called before the first Apply.
func (b *Broker) SetLogStart(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.history.complete = at.UnixNano()
}

// Apply applies the next entry in a replica's log and queues it for the local streams
// in its audience. It returns what Publish would: the first receipt if the message is a
// repetition, ErrKeyUsed if its idempotency key was used for another message, and a
// *RetainFullError if there is no room to retain it. These results depend on the log
// alone, so all replicas return the same, except that Recipients counts local streams.
//
// Apply waits for shards to catch up, but only until ctx ends. Apply must be called for
// one entry at a time, in order.
func (b *Broker) Apply(ctx context.Context, entry *Entry) (Receipt, error) {
	m := &entry.Message
	ids := b.ids.Load()
	buf := encodeFields(m, ids.room)
	e := newEvent(m, int32(min(len(buf), maxBacklog)))
	e.seq, e.at = entry.Seq, entry.At.UnixNano()
	if err := b.backlog.Acquire(ctx, int64(e.cost)); err != nil {
		return Receipt{}, fmt.Errorf("waiting for shards to catch up: %w", err)
	}

	receipt, posted, err := b.order(m, e, ids, buf, &placement{!entry.Own, entry.Verdict, entry.Retain, entry.RetainedByPolicy, entry.TopicsRetainedByPolicy})
	if !posted {
		b.backlog.Release(int64(e.cost))
	}
	return receipt, err
}

// Advance records that a replica has read its log up to seq: every entry that follows
// has a higher sequence number. A client may therefore resume from any position up to
// seq, even if no entry has that number. Such a position can be the current end of a
// replica that began later.
func (b *Broker) Advance(seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.passed = max(b.passed, seq)
	if len(b.waiters) > 0 {
		b.releaseWaiters()
	}
}

// end returns the last position from which streams can resume. The caller holds b.mu.
func (b *Broker) end() uint64 { return max(b.seq, b.passed) }

// Verdicts returns what this replica currently knows about the idempotency keys of
// messages, and the epoch of its log. The verdicts must be stored with the messages
// in that log.
func (b *Broker) Verdicts(messages []*Message) (epoch string, verdicts []Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.logNow()
	verdicts = make([]Verdict, len(messages))
	for i, m := range messages {
		verdicts[i] = b.replies.verdict(m, now)
		verdicts[i].AsOf = b.seq
	}
	return b.ids.Load().epoch, verdicts
}

// Suspend makes Start return ErrSuspended until Resume is called, and starts
// closing all streams, so that clients reconnect to other nodes. It spreads the
// closing over the given time as [Broker.Drain] does, to avoid a burst of
// connections to those nodes. Streams that are still open get the events that are
// applied in the meantime.
func (b *Broker) Suspend(over time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.suspended {
		return
	}
	b.suspended = true
	b.suspension = b.startDrain(over, Suspended)
}

// Resume allows streams to join again, and keeps open the streams that Suspend
// hasn't closed yet. They have missed nothing: entries are applied in order and
// without gaps unless another log begins.
func (b *Broker) Resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.suspended = false
	b.endSuspension()
}

// endSuspension cancels the drain that Suspend started. The caller holds b.mu.
func (b *Broker) endSuspension() {
	if b.suspension != nil && !b.closed {
		b.cancelDrain(b.suspension)
	}
	b.suspension = nil
}

// Suspended reports whether the broker is suspended.
func (b *Broker) Suspended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.suspended
}

// waiter waits until a replica has applied a position.
type waiter struct {
	seq  uint64
	done chan struct{}
}

const (
	// awaitTimeout limits the wait for an event that the client has seen but this
	// replica hasn't. Replicas are milliseconds apart, unless one is partitioned.
	awaitTimeout = 3 * time.Second
	// settleTime is how long after Await began a reading of the log's end must be taken
	// to prove that the client's position is beyond that end. Right after a leader
	// change, a log may appear shorter than it is.
	settleTime = time.Second
)

// MayAwait reports whether Await may wait.
func (b *Broker) MayAwait() bool { return b.replica }

// Await waits until this replica has applied the event with the given id, which the
// client may have received from a replica that is ahead. It returns nil immediately
// if the id can't be from this log, and after a few seconds if Confirm has shown
// that the log doesn't extend that far. If that remains unknown, Await returns
// ErrBehind: starting the stream would report a gap that may not exist.
func (b *Broker) Await(ctx context.Context, id string) error {
	if !b.replica || id == "" {
		return nil
	}
	epoch, seq, err := parseID(id)
	if err != nil {
		return nil // the start of the stream handles invalid ids
	}

	b.mu.Lock()
	if epoch != b.ids.Load().epoch || seq <= b.end() {
		b.mu.Unlock()
		return nil
	}
	w := &waiter{seq, make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()

	since := time.Now()
	timeout := time.NewTimer(awaitTimeout)
	defer timeout.Stop()
	select {
	case <-w.done:
		return nil
	case <-timeout.C:
	case <-ctx.Done():
	case <-b.stop:
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiters = slices.DeleteFunc(b.waiters, func(other *waiter) bool { return other == w })
	if seq > b.end() && (seq <= b.logEnd.seq || b.logEnd.at.Before(since.Add(settleTime))) {
		return ErrBehind
	}
	return nil
}

// logEnd is the last sequence number in the log at some point in time.
type logEnd struct {
	seq uint64
	at  time.Time
}

// Confirm records that the log had no event after seq at the given time.
func (b *Broker) Confirm(seq uint64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logEnd = logEnd{seq, at}
}

// releaseWaiters wakes the waiters whose event has been applied. The caller
// holds b.mu.
func (b *Broker) releaseWaiters() {
	b.waiters = slices.DeleteFunc(b.waiters, func(w *waiter) bool {
		if w.seq > b.end() {
			return false
		}
		close(w.done)
		return true
	})
}
