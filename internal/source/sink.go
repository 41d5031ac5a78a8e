package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"github.com/peald/peald/internal/broker"
)

const (
	// patience is how long a Sink retries without any progress before it returns an
	// error, so that a node that can publish may take over.
	patience = 15 * time.Second

	firstPublishDelay = 20 * time.Millisecond
	maxPublishDelay   = time.Second

	// The first logRejected rejected records are logged, and later ones once per
	// logInterval.
	logRejected = 10
	logInterval = 10 * time.Second
)

// Settled describes the records that a Reader may acknowledge.
type Settled struct {
	// Count is the number of settled records, counted from the first: they have been
	// published, now or earlier, or rejected.
	Count int
	// Rejected holds those among them that were rejected, in order. The Reader MUST store
	// them in the dead-letter destination, if there is one, BEFORE it acknowledges them.
	Rejected []Rejected
}

// Rejected is a record that can't be published.
type Rejected struct {
	// Index is the record's index in the records passed to [Sink.Publish].
	Index int
	// Err is the reason. It may name the audience or the type of the event, and contains
	// nothing else of the record.
	Err error
}

// UnavailableError is returned by [Sink.Publish] if this node has been unable to publish
// for a while.
type UnavailableError struct {
	// Err is the last error from the attempts to publish.
	Err error
}

func (e *UnavailableError) Error() string { return "cannot publish: " + e.Err.Error() }

func (e *UnavailableError) Unwrap() error { return e.Err }

// Sink publishes the records of one source, and receives its Reader's reports. Its
// methods are safe for concurrent use.
type Sink struct {
	source    string
	mapping   *Mapping
	publisher Publisher
	log       *slog.Logger
	status    *status
	rejects   rate.Sometimes // logs rejected records
}

// Publish maps records, which must be of one partition, to messages and publishes them in
// order. Calls for the same partition must not overlap. While the event log is
// unavailable, Publish waits.
//
// It returns once all records are settled, or an error if ctx ends, the daemon shuts
// down, or nothing can be published for a while. Settled also counts after an error.
func (s *Sink) Publish(ctx context.Context, records []Record) (settled Settled, err error) {
	var (
		messages = make([]broker.Message, 0, len(records))
		indexes  = make([]int, 0, len(records)) // of the messages' records
		rejected = make(map[int]error)
	)

	for i := range records {
		m, err := s.message(&records[i])
		if err != nil {
			rejected[i] = err
			continue
		}
		messages, indexes = append(messages, m), append(indexes, i)
	}

	results, err := s.publish(ctx, messages)
	for i, result := range results {
		if result != nil {
			rejected[indexes[i]] = result
		}
	}

	settled.Count = len(records)
	if len(results) < len(messages) {
		settled.Count = indexes[len(results)]
	}
	for i := range settled.Count {
		if reason, ok := rejected[i]; ok {
			settled.Rejected = append(settled.Rejected, Rejected{i, reason})
			s.reject(&records[i], reason)
		}
	}
	s.status.count(settled)

	return settled, err
}

// message returns the message for r, with an idempotency key.
func (s *Sink) message(r *Record) (broker.Message, error) {
	m, err := s.mapping.message(r)
	if err != nil {
		return m, err
	}

	if m.IdempotencyKey == "" {
		m.IdempotencyKey = derivedKey(s.source, r)
	}

	return m, m.Validate()
}

// publish publishes messages in order, and returns their results. It retries while the
// event log is unavailable.
func (s *Sink) publish(ctx context.Context, messages []broker.Message) (results []error, err error) {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = firstPublishDelay, maxPublishDelay
	defer s.status.published()

	for progress := time.Now(); ; {
		more, err := s.publisher.PublishInOrder(ctx, messages[len(results):])
		for i, result := range more {
			more[i] = s.final(&messages[len(results)+i], result)
		}
		results = append(results, more...)

		if err == nil {
			return results, nil
		}
		if _, temporary := errors.AsType[*broker.UnavailableError](err); !temporary {
			return results, err
		}

		if len(more) > 0 {
			progress = time.Now()
			delays.Reset()
		}
		if time.Since(progress) > patience {
			return results, &UnavailableError{err}
		}
		s.status.waiting(err)

		select {
		case <-ctx.Done():
			return results, fmt.Errorf("waiting to publish: %w", context.Cause(ctx))
		case <-time.After(delays.NextBackOff()):
		}
	}
}

// final returns the final result for m. If the key that the Sink derived has been used
// for another message, the record has been published with an earlier mapping.
func (s *Sink) final(m *broker.Message, result error) error {
	if errors.Is(result, broker.ErrKeyUsed) && isDerived(m.IdempotencyKey) {
		return nil
	}

	return result
}

// Fields returns the sorted names of the headers, fields or columns that the mapping
// uses. A Reader may leave out all others.
func (s *Sink) Fields() []string { return s.mapping.fieldNames() }

// reject logs a rejected record, unless too many have been logged.
func (s *Sink) reject(r *Record, reason error) {
	s.rejects.Do(func() {
		s.log.Warn("record rejected", "origin", r.Origin, "partition", r.Partition, "offset", r.Offset, "error", reason)
	})
}

// Standby reports that another Reader of the source is active.
func (s *Sink) Standby() { s.status.set(StateStandby) }

// Active reports that the Reader is connected and reads records.
func (s *Sink) Active() { s.status.set(StateActive) }

// ReportLag reports the source's lag. An active Reader calls it at least every 15 s, also
// while it waits for Publish.
func (s *Sink) ReportLag(l Lag) { s.status.report(l) }
