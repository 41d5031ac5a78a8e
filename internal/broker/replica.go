package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrSuspended is what a broker answers that takes no streams for now.
var ErrSuspended = errors.New("the broker is suspended")

// ErrBehind is what a replica answers a client that has seen more of the log
// than it has.
var ErrBehind = errors.New("the replica is behind what the client has seen")

// UnavailableError says why a message could not be published, for a reason
// that may pass. It may have been published all the same, if it got as far as
// that before.
type UnavailableError struct {
	// Reason is a sentence for the publisher.
	Reason string
}

func (e *UnavailableError) Error() string { return e.Reason }

// Entry is a message with the place that the log of a replica has given it.
type Entry struct {
	// Seq is greater than those of all entries before. It need not be the
	// next.
	Seq uint64
	// At is when the log took the message in, by the log's clock.
	At time.Time
	// Own says that it was published here, and is to be counted as such.
	Own bool
	// Verdict is what the replica that published it knew of its idempotency
	// key.
	Verdict Verdict
	// Message must be valid.
	Message Message
}

// Begin begins the log of a replica at first, the sequence of the first event
// that it may be given; what it held before is gone. Epochs are of digits and
// small letters, and tell logs apart: no two events have the same epoch and
// sequence. Entries are not applied at the same time.
//
// The broker is suspended from then on, so that nobody joins before it has
// caught up, and streams that are still open are cut: of what they have yet to
// get nothing is left.
func (b *Broker) Begin(epoch string, first uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.suspended = true
		b.goOn()
		b.begun++
		for _, s := range b.shards {
			s.post(item{kind: cutAll})
		}
	}
	b.log.Store(newLogName(epoch))
	b.seq = first - 1
	b.history = newHistory(b.cfg.Load().History)
	b.history.first = first
	b.replies = newReplies(b.cfg.Load().IdempotencyWindow)
	b.clock = logClock{}
}

// Apply gives a replica the next entry of its log, and queues it to its
// audience's streams here. It answers as Publish would have: with the first
// one's receipt where the message repeats one, and with ErrKeyUsed where it may
// not have its idempotency key. As these depend on nothing but the log, all
// replicas answer alike, but for Recipients, which counts streams here.
//
// It waits for shards that have fallen behind, until ctx ends. Calls are in
// order, one at a time.
func (b *Broker) Apply(ctx context.Context, entry *Entry) (Receipt, error) {
	m := &entry.Message
	log := b.log.Load()
	buf := encodeFields(m, log.room)
	e := &event{audience: m.Audience, conflate: m.ConflateKey, seq: entry.Seq, at: entry.At.UnixNano()}
	e.cost = int64(min(len(buf), maxBacklog))
	if err := b.backlog.Acquire(ctx, e.cost); err != nil {
		return Receipt{}, fmt.Errorf("waiting for shards to catch up: %w", err)
	}
	receipt, posted, err := b.order(m, e, log, buf, !entry.Own, entry.Verdict)
	if !posted {
		b.backlog.Release(e.cost)
	}
	return receipt, err
}

// Verdicts returns what this replica knows now of the idempotency keys of messages, for
// the entries that they are to become in the log of epoch.
func (b *Broker) Verdicts(messages []*Message) (epoch string, verdicts []Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.logNow()
	verdicts = make([]Verdict, len(messages))
	for i, m := range messages {
		verdicts[i] = b.replies.judge(m, now)
		verdicts[i].AsOf = b.seq
	}
	return b.log.Load().epoch, verdicts
}

// Suspend makes Start answer ErrSuspended until Resume, and begins to end all
// streams, to come back elsewhere: spread over a time, as by [Broker.Drain], so
// that elsewhere they are no crowd. Those that are left get what is applied
// meanwhile.
func (b *Broker) Suspend(over time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.suspended {
		return
	}
	b.suspended = true
	b.leaving = b.sendAway(over, Suspended)
}

// Resume lets streams join again, and those go on that Suspend has not ended
// yet: they have been given everything, for entries are applied in order and
// without a hole, unless another log begins.
func (b *Broker) Resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.suspended = false
	b.goOn()
}

// goOn ends what Suspend began. The caller has b.mu.
func (b *Broker) goOn() {
	if b.leaving != nil && !b.closed {
		b.stay(b.leaving)
	}
	b.leaving = nil
}

// Suspended reports whether the broker is suspended.
func (b *Broker) Suspended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.suspended
}

// arrival waits for a replica to come to a position.
type arrival struct {
	seq  uint64
	done chan struct{}
}

const (
	// maxAhead is how long a replica lets a client wait whose last event it
	// has yet to see. Replicas are milliseconds apart, or one is cut off.
	maxAhead = 3 * time.Second
	// settles is how long after a client came the log must have been looked at
	// for it to be known that it doesn't go as far as the client has seen: a
	// log that has just got another leader may be said to be shorter.
	settles = time.Second
)

// Await returns once a replica's log has come to the event with an id, which a
// client may have got from a replica that is ahead of this one. It returns at
// once where the id can't be one of those, and after a few seconds where by
// Confirm it is not. As long as it may be, it returns ErrBehind: to begin the
// client's stream at what is there would tell it of a hole that is none.
func (b *Broker) Await(ctx context.Context, id string) error {
	if !b.replica || id == "" {
		return nil
	}
	epoch, seq, err := parseID(id)
	if err != nil {
		return nil // it is nobody's, as the stream's start finds
	}
	b.mu.Lock()
	if epoch != b.log.Load().epoch || seq <= b.seq {
		b.mu.Unlock()
		return nil
	}
	a := &arrival{seq, make(chan struct{})}
	b.ahead = append(b.ahead, a)
	b.mu.Unlock()

	since := time.Now()
	timeout := time.NewTimer(maxAhead)
	defer timeout.Stop()
	select {
	case <-a.done:
		return nil
	case <-timeout.C:
	case <-ctx.Done():
	case <-b.stop:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ahead = slices.DeleteFunc(b.ahead, func(other *arrival) bool { return other == a })
	if seq > b.seq && (seq <= b.end.seq || b.end.at.Before(since.Add(settles))) {
		return ErrBehind
	}
	return nil
}

// logEnd is how far the log went at some time.
type logEnd struct {
	seq uint64
	at  time.Time
}

// Confirm tells a replica that the log had no event past seq at a time.
func (b *Broker) Confirm(seq uint64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = logEnd{seq, at}
}

// letArrive lets those go on who waited for what has been applied. The caller
// has b.mu.
func (b *Broker) letArrive() {
	b.ahead = slices.DeleteFunc(b.ahead, func(a *arrival) bool {
		if a.seq > b.seq {
			return false
		}
		close(a.done)
		return true
	})
}
