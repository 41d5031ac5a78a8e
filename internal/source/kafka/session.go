package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/peald/peald/internal/source"
)

const (
	// maxPoll limits the records that are unsettled at once.
	maxPoll = 2000
	// maxPublishers limits how many partitions are published at the same time.
	maxPublishers = 16
)

// session is one run of a Reader.
type session struct {
	client     *kgo.Client
	sink       *source.Sink
	log        *slog.Logger
	name       string // of the source
	deadLetter string
	headers    []string // that the mapping uses, sorted
	earliest   bool     // the group starts with the first record of a partition

	mu         sync.Mutex
	partitions map[partition]*progress // of the assigned partitions
}

type partition struct {
	topic  string
	number int32
}

// String returns the partition in Kafka's usual notation.
func (p partition) String() string { return p.topic + "-" + strconv.Itoa(int(p.number)) }

// progress holds how far a partition has been read. It is guarded by session.mu.
type progress struct {
	next   int64     // the first offset that isn't settled; -1 if unknown
	oldest time.Time // when the oldest unsettled record of the last poll was written; zero if there is none
}

// batch holds the records of one partition from one poll.
type batch struct {
	partition
	records []*kgo.Record // without control records
	last    *kgo.Record   // the last one, which may be a control record
}

// consume polls and settles records until ctx ends or something fails.
func (s *session) consume(ctx context.Context) error {
	for {
		fetches := s.client.PollRecords(ctx, maxPoll)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.inspect(fetches); err != nil {
			return err
		}
		if err := s.settle(ctx, s.group(fetches)); err != nil {
			return err
		}
		s.client.AllowRebalance()
	}
}

// inspect logs errors that the client handles on its own, and returns any other.
func (s *session) inspect(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if loss, ok := errors.AsType[*kgo.ErrDataLoss](e.Err); ok {
			s.log.Error("source lost records", "topic", loss.Topic, "partition", loss.Partition,
				"read_to", loss.ConsumedTo, "continue_at", loss.ResetTo)
			continue
		}

		if ended, ok := errors.AsType[*kgo.ErrGroupSession](e.Err); ok {
			if isTemporary(ended.Err) {
				s.log.Warn("source left its consumer group", "error", ended.Err)
				continue
			}
			return fmt.Errorf("join the consumer group: %w", ended.Err)
		}

		return fmt.Errorf("read topic %q, partition %d: %w", e.Topic, e.Partition, e.Err)
	}

	return nil
}

// isTemporary reports whether the client joins the group again after err, probably with
// success.
func isTemporary(err error) bool {
	for _, removed := range []*kerr.Error{kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.FencedMemberEpoch, kerr.StaleMemberEpoch} {
		if errors.Is(err, removed) {
			return true
		}
	}

	return kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err)
}

// group returns the records by partition.
func (s *session) group(fetches kgo.Fetches) []*batch {
	var batches []*batch
	byPartition := make(map[partition]*batch)

	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) == 0 {
			return
		}

		p := partition{f.Topic, f.Partition}
		b := byPartition[p]
		if b == nil {
			b = &batch{partition: p}
			byPartition[p] = b
			batches = append(batches, b)
			s.begin(p, &f.FetchPartition)
		}

		for _, r := range f.Records {
			if !r.Attrs.IsControl() {
				b.records = append(b.records, r)
			}
			b.last = r
		}
	})

	return batches
}

// begin notes that records of a partition have been read, and logs if earlier ones had
// been deleted by then.
func (s *session) begin(p partition, f *kgo.FetchPartition) {
	s.mu.Lock()
	at := s.partitions[p]
	if at == nil { // taken away meanwhile
		s.mu.Unlock()
		return
	}
	at.oldest = f.Records[0].Timestamp
	next := at.next
	s.mu.Unlock()

	if next < 0 {
		next = f.Records[0].Offset
		if committed, ok := s.client.CommittedOffsets()[p.topic][p.number]; ok {
			next = committed.Offset
		}
		s.mu.Lock()
		at.next = next
		s.mu.Unlock()
	}
	if f.LogStartOffset > next {
		s.log.Error("source lost records", "topic", p.topic, "partition", p.number,
			"read_to", next, "continue_at", f.LogStartOffset)
	}
}

// settle publishes the batches, and marks their offsets. Partitions are independent of
// each other.
func (s *session) settle(ctx context.Context, batches []*batch) error {
	publishing, ctx := errgroup.WithContext(ctx)
	publishing.SetLimit(maxPublishers)

	for _, b := range batches {
		publishing.Go(func() error { return s.publish(ctx, b) })
	}

	return publishing.Wait()
}

// publish publishes the records of one partition, and marks those that are settled.
func (s *session) publish(ctx context.Context, b *batch) error {
	if len(b.records) == 0 {
		s.mark(b.partition, b.last, time.Time{})
		return nil
	}

	settled, err := s.sink.Publish(ctx, s.convert(b))

	count := settled.Count
	if s.deadLetter != "" && len(settled.Rejected) > 0 {
		stored, failed := s.storeRejected(ctx, b.records, settled.Rejected)
		if failed != nil {
			count, err = settled.Rejected[stored].Index, failed
		}
	}

	switch {
	case count == len(b.records):
		s.mark(b.partition, b.last, time.Time{})
	case count > 0:
		s.mark(b.partition, b.records[count-1], b.records[count].Timestamp)
	}

	return err
}

// mark notes that all records up to r are settled. Oldest is when the next one was
// written; it is zero if there is none.
func (s *session) mark(p partition, r *kgo.Record, oldest time.Time) {
	s.client.MarkCommitRecords(r)

	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.partitions[p]; at != nil {
		at.next, at.oldest = r.Offset+1, oldest
	}
}

// convert returns the records of a batch in the form of package source.
func (s *session) convert(b *batch) []source.Record {
	records := make([]source.Record, len(b.records))
	name := b.String()

	for i, r := range b.records {
		records[i] = source.Record{
			Origin:    r.Topic,
			Partition: name,
			Offset:    strconv.FormatInt(r.Offset, 10) + "-" + strconv.FormatInt(r.Timestamp.UnixMilli(), 10),
			Key:       r.Key,
			Value:     r.Value,
		}
		for _, h := range r.Headers {
			if _, used := slices.BinarySearch(s.headers, h.Key); !used {
				continue
			}
			records[i].Fields = append(records[i].Fields, source.Field{Name: h.Key, Value: string(h.Value)})
		}
	}

	return records
}

// assigned is called when the group has assigned partitions to this member.
func (s *session) assigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for topic, numbers := range added {
		for _, n := range numbers {
			s.partitions[partition{topic, n}] = &progress{next: -1}
		}
	}
	s.updateState()
}

// revoked is called before the group assigns partitions to another member, and before the
// client leaves the group.
func (s *session) revoked(ctx context.Context, client *kgo.Client, removed map[string][]int32) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()

	if err := client.CommitMarkedOffsets(ctx); err != nil {
		s.log.Warn("source offsets not committed", "error", err)
	}
	s.forget(removed)
}

// lost is called when the group has removed this member, so that it can't commit.
func (s *session) lost(_ context.Context, _ *kgo.Client, removed map[string][]int32) {
	s.forget(removed)
}

func (s *session) forget(removed map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for topic, numbers := range removed {
		for _, n := range numbers {
			delete(s.partitions, partition{topic, n})
		}
	}
	s.updateState()
}

// updateState reports whether this member has partitions. The caller must hold s.mu.
func (s *session) updateState() {
	if len(s.partitions) == 0 {
		s.sink.Standby()
		return
	}
	s.sink.Active()
}

// commitError returns the first error in a response to a commit.
func commitError(response *kmsg.OffsetCommitResponse) error {
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("topic %q, partition %d: %w", t.Topic, p.Partition, err)
			}
		}
	}

	return nil
}
