package cluster

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// mayBePublished is appended to the error for a message that has been sent.
const mayBePublished = "; the message may still be published, so retry only with the same idempotency_key"

// submission is a message to append to the event log.
type submission struct {
	original *broker.Message // nil for a message that isn't an event
	message  *clusterv1.Message
	size     int       // of message, encoded
	deadline time.Time // for the publisher's result
	done     chan result
	order    *order // nil for a message on its own

	// Guarded by appender.mu.

	sent      bool // part of a batch
	abandoned bool // the publisher is no longer waiting
}

// order is a sequence of submissions, none of which may be appended after an earlier one
// has failed.
type order struct {
	broken error // why one of them failed; guarded by appender.mu
}

// interrupt breaks o, unless it is nil. The caller must hold appender.mu.
func (o *order) interrupt(err error) {
	if o != nil {
		o.broken = cmp.Or(o.broken, err)
	}
}

// err returns the error that has broken o; nil if it isn't broken or o is nil. The caller
// must hold appender.mu.
func (o *order) err() error {
	if o == nil {
		return nil
	}
	return o.broken
}

// fail gives s the result err, and breaks the order that s is part of. The caller must
// hold appender.mu.
func (s *submission) fail(err error) {
	s.order.interrupt(err)
	s.done <- result{err: err}
}

// result is the result of publishing a message.
type result struct {
	receipt broker.Receipt
	cleared int // number of retained values, for a message that clears them
	err     error
}

// appender queues submissions and tracks the batches in flight.
type appender struct {
	incarnation uint64
	capacity    *semaphore.Weighted // of the queue, in bytes
	wake        chan struct{}       // has a token when the queue isn't empty

	mu        sync.Mutex
	closed    error // rejects submissions permanently
	suspended error // rejects submissions until resume
	lastErr   error // from the last attempt to append the current batch
	queue     []*submission
	inFlight  map[uint64]*flight // by batch number
}

// flight is a batch in flight. It ends when the node has read the batch or given up on
// it.
type flight struct {
	submissions []*submission
	seen        chan struct{} // closed when the batch has been read, or abandoned by suspend

	// Guarded by appender.mu.

	givenUp bool // by suspend
}

// notPublishing returns the error for messages while the node isn't serving.
func notPublishing(reason string) *broker.UnavailableError {
	return &broker.UnavailableError{Reason: "cannot publish: " + reason}
}

func newAppender(incarnation uint64) *appender {
	return &appender{
		incarnation: incarnation,
		capacity:    semaphore.NewWeighted(maxQueued),
		wake:        make(chan struct{}, 1),
		inFlight:    make(map[uint64]*flight),
	}
}

// submit queues a message behind all earlier submissions. The caller must pass the
// result to wait. original is nil if the message isn't an event, and o is nil if the
// message isn't part of an order. If o is broken, submit returns the error that broke it.
func (a *appender) submit(ctx context.Context, original *broker.Message, message *clusterv1.Message, o *order, maxSize int) (*submission, error) {
	s := &submission{original: original, message: message, deadline: time.Now().Add(appendTimeout), done: make(chan result, 1), order: o}
	s.size = proto.Size(s.message)
	if s.size > maxSize {
		return nil, &broker.InvalidError{Field: "data", Reason: fmt.Sprintf(
			"makes an entry of %d bytes; the NATS servers' max_payload allows %d", s.size, maxSize)}
	}
	if err := a.capacity.Acquire(ctx, int64(s.size)); err != nil {
		return nil, fmt.Errorf("waiting for the publish queue: %w", err)
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if err := cmp.Or(a.closed, a.suspended, o.err()); err != nil {
		o.interrupt(err)
		a.capacity.Release(int64(s.size))
		return nil, err
	}
	a.queue = append(a.queue, s)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return s, nil
}

// wait waits for the result of s. It returns an error if s's deadline passes or ctx is
// done first. After an error, s won't be sent unless it already has been.
func (a *appender) wait(ctx context.Context, s *submission) (result, error) {
	select {
	case r := <-s.done: // usually the case for all submissions but the first in a batch
		return r, r.err
	default:
	}

	// The deadline counts from submit. A submission queued behind batches that are
	// being retried therefore doesn't wait the full time again.
	late := time.NewTimer(time.Until(s.deadline))
	defer late.Stop()
	var err error
	select {
	case r := <-s.done:
		return r, r.err
	case <-late.C:
	case <-ctx.Done():
		err = fmt.Errorf("waiting for the event log: %w", ctx.Err())
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	s.abandoned = true
	select {
	case r := <-s.done:
		return r, r.err
	default:
	}
	if err == nil {
		err = a.timeoutError(s.sent)
	}
	s.order.interrupt(err)
	return result{}, err
}

// timeoutError returns the error for a message that the event log didn't store in time.
// The caller must hold a.mu.
func (a *appender) timeoutError(sent bool) error {
	reason := "the event log did not store the message within " + appendTimeout.String()
	if a.lastErr != nil {
		reason += fmt.Sprintf(" (%v)", a.lastErr)
	}
	if sent {
		return &broker.UnavailableError{Reason: reason + mayBePublished}
	}
	return &broker.UnavailableError{Reason: reason + "; the message was not sent"}
}

// take removes the submissions of the next batch from the queue. The batch has at most
// maxSize bytes. It is empty if the queue is empty.
func (a *appender) take(maxSize int) (batch []*submission) {
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes, n := 0, 0
	for _, s := range a.queue {
		if len(batch) == maxBatch || len(batch) > 0 && bytes+s.size > min(maxBatchBytes, maxSize) {
			break
		}
		n++
		a.capacity.Release(int64(s.size))
		switch {
		case s.abandoned:
		case s.order.err() != nil:
			s.done <- result{err: s.order.err()}
		default:
			s.sent = true
			batch = append(batch, s)
			bytes += s.size
		}
	}
	clear(a.queue[:n])
	if a.queue = a.queue[n:]; len(a.queue) == 0 {
		a.queue = nil
	}
	return batch
}

// launch registers a batch as in flight. If the appender is suspended, launch rejects
// the batch and returns nil.
func (a *appender) launch(number uint64, batch []*submission) *flight {
	f := &flight{submissions: batch, seen: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.suspended != nil {
		for _, s := range batch {
			s.fail(a.suspended)
		}
		return nil
	}
	a.inFlight[number] = f
	a.lastErr = nil
	return f
}

// acknowledge passes the results of a batch to its publishers, after the batch has been
// read from the event log.
func (a *appender) acknowledge(number uint64, results []result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.inFlight[number]
	if !ok {
		return
	}
	delete(a.inFlight, number)
	for i, s := range f.submissions {
		s.done <- results[i]
	}
	close(f.seen)
}

// setError records the error from the last attempt to append.
func (a *appender) setError(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastErr = err
}

// giveUp gives up on a batch, which may nevertheless be in the event log. Its messages
// fail with err, or with a timeout error if err is nil.
func (a *appender) giveUp(number uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.inFlight[number]
	if !ok {
		return // it has been read in the meantime
	}
	if err == nil {
		err = a.timeoutError(true)
	}
	delete(a.inFlight, number)
	for _, s := range f.submissions {
		s.fail(err)
	}
}

// abandon makes the appender drop the submissions of o that aren't part of a batch yet.
func (a *appender) abandon(o *order, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o.interrupt(err)
}

// close fails all pending and future submissions with err.
func (a *appender) close(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = err
	for _, s := range a.queue {
		a.capacity.Release(int64(s.size))
		s.done <- result{err: err}
	}
	a.queue = nil
	for number, f := range a.inFlight {
		delete(a.inFlight, number)
		for _, s := range f.submissions {
			s.done <- result{err: err}
		}
	}
}

// suspend fails all pending submissions with reason, and rejects new ones until
// resume is called. It returns the size of the largest batch in flight.
func (a *appender) suspend(reason string) (largest int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.suspended = notPublishing(reason)
	for _, s := range a.queue {
		a.capacity.Release(int64(s.size))
		s.fail(a.suspended)
	}
	a.queue = nil

	err := notPublishing(reason + mayBePublished)
	for number, f := range a.inFlight {
		delete(a.inFlight, number)
		size := 0
		for _, s := range f.submissions {
			size += s.size
			s.fail(err)
		}
		largest = max(largest, size)
		f.givenUp = true
		close(f.seen)
	}
	return largest
}

// resume makes the appender accept submissions again.
func (a *appender) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.suspended = nil
}
