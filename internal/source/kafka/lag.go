package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/peald/peald/internal/source"
)

const (
	lagInterval = 5 * time.Second
	// maxLagFailures is how often in a row the brokers may leave the question for offsets
	// unanswered. The client itself tries to read from them forever, without an error.
	maxLagFailures = 3
)

// reportLag reports the lag of the assigned partitions until ctx ends. It calls stop if
// the brokers can't be reached.
func (s *session) reportLag(ctx context.Context, stop context.CancelCauseFunc) {
	admin := kadm.NewClient(s.client)
	ticker := time.NewTicker(lagInterval)
	defer ticker.Stop()

	for failures := 0; ; {
		lag, ok, err := s.lag(ctx, admin)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			if ok {
				s.sink.ReportLag(lag)
			}
		default:
			if failures++; failures == maxLagFailures {
				stop(fmt.Errorf("list the offsets of the topics: %w", err))
				return
			}
		}

		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// lag returns the lag of the assigned partitions. It returns false if there are none.
func (s *session) lag(ctx context.Context, admin *kadm.Client) (lag source.Lag, ok bool, err error) {
	topics := s.topics()
	if len(topics) == 0 {
		return lag, false, nil
	}

	ctx, cancel := context.WithTimeout(ctx, lagInterval)
	defer cancel()
	ends, err := admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return lag, false, err
	}
	committed := s.client.CommittedOffsets()
	var starts kadm.ListedOffsets
	if s.earliest && s.hasUnread(committed) {
		if starts, err = admin.ListStartOffsets(ctx, topics...); err != nil {
			return lag, false, err
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for p, at := range s.partitions {
		end, known := ends.Lookup(p.topic, p.number)
		if !known || end.Err != nil {
			continue
		}

		next := at.next
		if next < 0 {
			next = end.Offset // nothing has been read yet
			if c, ok := committed[p.topic][p.number]; ok {
				next = c.Offset
			} else if start, ok := starts.Lookup(p.topic, p.number); ok && start.Err == nil {
				next = start.Offset
			}
		}

		lag.Records += max(end.Offset-next, 0)
		if !at.oldest.IsZero() && (lag.Since.IsZero() || at.oldest.Before(lag.Since)) {
			lag.Since = at.oldest
		}
	}

	return lag, len(s.partitions) > 0, nil
}

// hasUnread reports whether there is a partition from which nothing has been read, and for
// which the group has no offset.
func (s *session) hasUnread(committed map[string]map[int32]kgo.EpochOffset) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	for p, at := range s.partitions {
		if _, ok := committed[p.topic][p.number]; !ok && at.next < 0 {
			return true
		}
	}

	return false
}

// topics returns the topics of the assigned partitions.
func (s *session) topics() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	var topics []string
	seen := make(map[string]bool)
	for p := range s.partitions {
		if !seen[p.topic] {
			seen[p.topic] = true
			topics = append(topics, p.topic)
		}
	}

	return topics
}
