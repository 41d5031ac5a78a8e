package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/peald/peald/internal/source"
)

// requestBytes limits the values that are sent to the dead-letter topic at once, because
// brokers limit the size of a batch, by default to about 1 MB.
const requestBytes = 512 << 10

// storeRejected sends the rejected records to the dead-letter topic. If that fails, stored
// is how many of them, counted from the first, are stored.
func (s *session) storeRejected(ctx context.Context, records []*kgo.Record, rejected []source.Rejected) (stored int, err error) {
	for stored < len(rejected) {
		var letters []*kgo.Record
		for size := 0; stored+len(letters) < len(rejected); {
			next := rejected[stored+len(letters)]
			record := records[next.Index]
			size += len(record.Key) + len(record.Value)
			if len(letters) > 0 && size > requestBytes {
				break
			}
			letters = append(letters, s.deadLetterRecord(record, next.Err))
		}

		if err := s.produce(ctx, letters); err != nil {
			return stored, fmt.Errorf("dead-letter topic %q: %w", s.deadLetter, err)
		}
		stored += len(letters)
	}

	return stored, nil
}

// produce sends records and waits until they are stored. A record that the topic doesn't
// accept because of its size is sent without its value.
func (s *session) produce(ctx context.Context, letters []*kgo.Record) error {
	err := s.client.ProduceSync(ctx, letters...).FirstErr()
	if err == nil || !isTooLarge(err) {
		return err
	}

	for _, letter := range letters {
		err := s.client.ProduceSync(ctx, letter).FirstErr()
		if isTooLarge(err) {
			s.log.Warn("dead-letter record stored without its value", "topic", letter.Topic, "bytes", len(letter.Value))
			letter.Headers = append(letter.Headers, kgo.RecordHeader{Key: "peald-value-bytes", Value: []byte(strconv.Itoa(len(letter.Value)))})
			letter.Value = nil
			err = s.client.ProduceSync(ctx, letter).FirstErr()
		}
		if err != nil {
			return err
		}
	}

	return nil
}

func isTooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// deadLetterRecord returns the record for the dead-letter topic.
func (s *session) deadLetterRecord(r *kgo.Record, reason error) *kgo.Record {
	header := func(name, value string) kgo.RecordHeader {
		return kgo.RecordHeader{Key: name, Value: []byte(value)}
	}

	return &kgo.Record{
		Topic: s.deadLetter,
		Key:   r.Key,
		Value: r.Value,
		Headers: append(slices.Clone(r.Headers),
			header("peald-source", s.name),
			header("peald-error", reason.Error()),
			header("peald-topic", r.Topic),
			header("peald-partition", strconv.Itoa(int(r.Partition))),
			header("peald-offset", strconv.FormatInt(r.Offset, 10)),
			header("peald-timestamp", strconv.FormatInt(r.Timestamp.UnixMilli(), 10)),
		),
	}
}
