package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/source"
)

const (
	watchInterval = 5 * time.Second
	// maxWatchFailures is how often in a row the server may leave the question for the
	// consumer's state unanswered. The client itself waits for messages forever.
	maxWatchFailures = 3
)

// watch reports the source's state and lag until ctx ends. It calls stop if the consumer is
// gone.
func (s *session) watch(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()

	for failures := 0; ; {
		info, err := s.info(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			s.report(info)
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
			stop(err)
			return
		default:
			if failures++; failures == maxWatchFailures {
				stop(s.denied.explain(err))
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

// report reports the consumer's state.
func (s *session) report(info *jetstream.ConsumerInfo) {
	s.floor.Store(info.AckFloor.Stream)

	own := s.pin.Load()
	if pin := pinned(info); pin != "" && (own == nil || *own != pin) {
		s.sink.Standby()
		return
	}

	s.sink.Active()
	lag := source.Lag{Records: int64(info.NumPending) + int64(info.NumAckPending)}
	if oldest := s.oldest.Load(); oldest != 0 {
		lag.Since = time.Unix(0, oldest)
	}
	s.sink.ReportLag(lag)
}
