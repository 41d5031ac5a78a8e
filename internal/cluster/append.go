package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// appendAll appends submissions, one batch after another, until ctx is done.
func (n *Node) appendAll(ctx context.Context) {
	defer n.appender.close(broker.ErrClosed)
	for number := uint64(1); ; {
		batch := n.appender.take(n.maxEntry())
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

// appendBatch appends a batch. It returns once the event log has stored the batch, or
// once the batch has been abandoned.
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
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	id := jetstream.WithMsgID(fmt.Sprintf("%x-%d", n.appender.incarnation, number))
	for delays := newBackOff(); ; {
		entry, err := n.tryAppend(ctx, data, id, f.seen)
		if err == nil {
			n.countAppend(f, time.Since(start))
			n.noteEntry(entry)
			return
		}

		n.metrics.appendRetries.Inc()
		if denial := n.denials.current(time.Now()); denial != "" {
			err = errors.New(denial)
		}
		n.appender.setError(err)
		select {
		case <-f.seen:
			n.countAppend(f, time.Since(start))
			return
		case <-ctx.Done():
			var reason error
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				reason = broker.ErrClosed
			}
			n.metrics.appendsGivenUp.Inc()
			n.appender.giveUp(number, reason)
			return
		case <-time.After(delays.NextBackOff()):
		}
	}
}

// countAppend counts a batch that needs no further attempts.
func (n *Node) countAppend(f *flight, took time.Duration) {
	n.appender.mu.Lock()
	givenUp := f.givenUp
	n.appender.mu.Unlock()
	if givenUp {
		n.metrics.appendsGivenUp.Inc()
		return
	}
	n.metrics.appended(took, len(f.submissions))
}

// tryAppend tries once to append a batch. It returns the number of the batch's entry,
// or 0 if the batch has been read in the meantime.
func (n *Node) tryAppend(ctx context.Context, data []byte, id jetstream.PublishOpt, seen <-chan struct{}) (entry uint64, err error) {
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

// stamp records in a batch which event log it is for, the limits on retained values,
// and what this node knows about the idempotency keys of its messages.
func (n *Node) stamp(batch *clusterv1.Batch, submissions []*submission) {
	var keyed []*clusterv1.Message
	var messages []*broker.Message
	for _, s := range submissions {
		if isRetained(s.message) {
			limits := n.broker.RetainLimits()
			batch.RetainMaxEvents, batch.RetainMaxBytes = uint64(limits.MaxEvents), uint64(limits.MaxBytes)
		}
		if s.original != nil && s.original.IdempotencyKey != "" {
			keyed, messages = append(keyed, s.message), append(messages, s.original)
		}
	}
	epoch, verdicts := n.broker.Verdicts(messages)
	batch.Epoch = epoch
	for i, v := range verdicts {
		batch.AsOf = v.AsOf
		keyed[i].Repeats, keyed[i].KeyUsed = v.Repeats, v.Used
	}
}
