package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// submission is a message on its way into the stream.
type submission struct {
	from    *broker.Message
	message *clusterv1.Message
	size    int       // encoded
	by      time.Time // when its publisher is to have an answer
	done    chan outcome

	// Guarded by appender.mu.

	sent      bool // in a batch
	abandoned bool // its publisher has gone
}

// outcome is what a publisher gets.
type outcome struct {
	receipt broker.Receipt
	err     error
}

// appender gathers what publishers submit, and appends it batch by batch.
type appender struct {
	incarnation uint64
	room        *semaphore.Weighted // in bytes
	wake        chan struct{}       // has a token when there is something to take

	mu      sync.Mutex
	closed  error // why nothing is taken any more
	refused error // why nothing is taken for now
	trouble error // of the last attempt to append what is tried now
	waiting []*submission
	flying  map[uint64]*flight // batches that are not resolved, by number
}

// flight is a batch from when it is sent until it was read back or given up.
type flight struct {
	submissions []*submission
	seen        chan struct{} // closed when the reader has come by it, or it was given up

	// Guarded by appender.mu.

	givenUp bool // for a fault of the node's storage
}

func newAppender(incarnation uint64) *appender {
	return &appender{
		incarnation: incarnation,
		room:        semaphore.NewWeighted(maxQueued),
		wake:        make(chan struct{}, 1),
		flying:      make(map[uint64]*flight),
	}
}

// submit takes m in, behind all that was submitted before, and returns how to
// wait for what becomes of it.
func (a *appender) submit(ctx context.Context, m *broker.Message, largest int) (*submission, error) {
	s := &submission{from: m, message: encode(m), by: time.Now().Add(appendFor), done: make(chan outcome, 1)}
	s.size = proto.Size(s.message)
	if s.size > largest {
		return nil, &broker.InvalidError{Field: "data", Reason: fmt.Sprintf(
			"makes an entry of %d bytes in the cluster's log, whose servers take at most %d, by their max_payload", s.size, largest)}
	}
	if err := a.room.Acquire(ctx, int64(s.size)); err != nil {
		return nil, fmt.Errorf("waiting for room to publish: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := cmp.Or(a.closed, a.refused); err != nil {
		a.room.Release(int64(s.size))
		return nil, err
	}
	a.waiting = append(a.waiting, s)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return s, nil
}

// wait returns what became of s, or that it takes too long. When ctx ends before
// it was sent, or it takes so long, it is not sent.
func (a *appender) wait(ctx context.Context, s *submission) (broker.Receipt, error) {
	select {
	case o := <-s.done: // as most of a batch's are, for one that waits for them in turn
		return o.receipt, o.err
	default:
	}
	// A batch that is behind others, which are tried for long, is not to be
	// waited for as long again.
	late := time.NewTimer(time.Until(s.by))
	defer late.Stop()
	var err error
	select {
	case o := <-s.done:
		return o.receipt, o.err
	case <-late.C:
	case <-ctx.Done():
		err = fmt.Errorf("waiting for the cluster's log: %w", ctx.Err())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.abandoned = true
	select {
	case o := <-s.done:
		return o.receipt, o.err
	default:
	}
	if err == nil {
		err = a.notTaken(s.sent)
	}
	return broker.Receipt{}, err
}

// notTaken says that the log takes nothing, and what that means for a message.
// The caller has a.mu.
func (a *appender) notTaken(sent bool) error {
	reason := "the cluster's log has not taken the message within " + appendFor.String()
	if a.trouble != nil {
		reason += fmt.Sprintf(" (%v)", a.trouble)
	}
	if sent {
		return &broker.UnavailableError{Reason: reason + "; it may yet appear, and with an idempotency_key it can be repeated"}
	}
	return &broker.UnavailableError{Reason: reason + "; it was not sent"}
}

// take returns the submissions of the next batch, which is not to be larger than
// the servers take; none when there are none.
func (a *appender) take(largest int) (batch []*submission) {
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes, n := 0, 0
	for _, s := range a.waiting {
		if len(batch) == maxBatch || len(batch) > 0 && bytes+s.size > min(maxBatchBytes, largest) {
			break
		}
		n++
		a.room.Release(int64(s.size))
		if !s.abandoned {
			s.sent = true
			batch = append(batch, s)
			bytes += s.size
		}
	}
	clear(a.waiting[:n])
	if a.waiting = a.waiting[n:]; len(a.waiting) == 0 {
		a.waiting = nil
	}
	return batch
}

// launch notes that a batch is on its way. It returns nil if nothing is taken for
// now, of which the batch's publishers are told.
func (a *appender) launch(number uint64, batch []*submission) *flight {
	f := &flight{submissions: batch, seen: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused != nil {
		for _, s := range batch {
			s.done <- outcome{err: a.refused}
		}
		return nil
	}
	a.flying[number] = f
	a.trouble = nil
	return f
}

// read is called when a batch of this node's has come back out of the stream.
// The outcomes are its publishers'.
func (a *appender) read(number uint64, outcomes []outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.flying[number]
	if !ok {
		return
	}
	delete(a.flying, number)
	for i, s := range f.submissions {
		s.done <- outcomes[i]
	}
	close(f.seen)
}

// failed notes why the last attempt to append has failed.
func (a *appender) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trouble = err
}

// giveUp tells the publishers of a batch why it may not be in the stream: err, or
// that it takes too long.
func (a *appender) giveUp(number uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.flying[number]
	if !ok {
		return // it has come back at the last moment
	}
	if err == nil {
		err = a.notTaken(true)
	}
	delete(a.flying, number)
	for _, s := range f.submissions {
		s.done <- outcome{err: err}
	}
}

// close tells all who wait, and whoever comes, why nothing is published any
// more.
func (a *appender) close(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = err
	for _, s := range a.waiting {
		a.room.Release(int64(s.size))
		s.done <- outcome{err: err}
	}
	a.waiting = nil
	for number, f := range a.flying {
		delete(a.flying, number)
		for _, s := range f.submissions {
			s.done <- outcome{err: err}
		}
	}
}

// suspend gives up everything that waits or is on its way, and has whatever comes
// rejected for a reason, until resume. It returns the size of the largest batch
// that it has given up.
func (a *appender) suspend(reason string) (largest int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = &broker.UnavailableError{Reason: reason}
	for _, s := range a.waiting {
		a.room.Release(int64(s.size))
		s.done <- outcome{err: a.refused}
	}
	a.waiting = nil
	err := &broker.UnavailableError{Reason: reason + "; the message may yet appear, and with an idempotency_key it can be repeated"}
	for number, f := range a.flying {
		delete(a.flying, number)
		size := 0
		for _, s := range f.submissions {
			size += s.size
			s.done <- outcome{err: err}
		}
		largest = max(largest, size)
		f.givenUp = true
		close(f.seen)
	}
	return largest
}

// resume has what comes from here on taken again.
func (a *appender) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = nil
}

// appendAll appends what is submitted, one batch after the other, until ctx
// ends.
func (n *Node) appendAll(ctx context.Context) {
	defer n.appender.close(broker.ErrClosed)
	for number := uint64(1); ; {
		batch := n.appender.take(n.largestEntry())
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-n.appender.wake:
			}
			continue
		}
		n.appendBatch(ctx, number, batch)
		number++
	}
}

// appendBatch returns when the batch is in the stream, or was given up.
func (n *Node) appendBatch(ctx context.Context, number uint64, batch []*submission) {
	record := &clusterv1.Batch{Incarnation: n.appender.incarnation, Number: number}
	for _, s := range batch {
		record.Messages = append(record.Messages, s.message)
	}
	f := n.appender.launch(number, batch)
	if f == nil {
		return
	}
	n.stamp(record, batch)
	data, err := proto.Marshal(record)
	if err != nil {
		n.appender.giveUp(number, fmt.Errorf("encoding a batch: %w", err))
		return
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, appendFor)
	defer cancel()
	id := jetstream.WithMsgID(fmt.Sprintf("%x-%d", n.appender.incarnation, number))
	for {
		last, err := n.tryAppend(ctx, data, id, f.seen)
		if err == nil {
			n.landed(f, time.Since(start))
			n.hint(last)
			return
		}
		n.figures.appendRetries.Inc()
		if denial := n.denials.current(time.Now()); denial != "" {
			err = errors.New(denial)
		}
		n.appender.failed(err)
		select {
		case <-f.seen:
			n.landed(f, time.Since(start))
			return
		case <-ctx.Done():
			var why error
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				why = broker.ErrClosed
			}
			n.figures.appendsGivenUp.Inc()
			n.appender.giveUp(number, why)
			return
		case <-time.After(retryAfter):
		}
	}
}

// landed counts a batch that needs no more attempts.
func (n *Node) landed(f *flight, took time.Duration) {
	n.appender.mu.Lock()
	givenUp := f.givenUp
	n.appender.mu.Unlock()
	if givenUp {
		n.figures.appendsGivenUp.Inc()
		return
	}
	n.figures.appended(took, len(f.submissions))
}

// tryAppend returns the batch's sequence in the stream, or 0 if it has been
// read already.
func (n *Node) tryAppend(ctx context.Context, data []byte, id jetstream.PublishOpt, seen <-chan struct{}) (uint64, error) {
	future, err := n.js.PublishMsgAsync(&nats.Msg{Subject: n.subjects.entries, Data: data}, id,
		jetstream.WithExpectStream(n.cfg.Name), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	select {
	case ack := <-future.Ok():
		return ack.Sequence, nil
	case err := <-future.Err():
		return 0, err
	case <-seen:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
