package jetstream

import (
	"context"
	"errors"
	"sync"
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
		s.state.set(s.sink, false)
		return
	}

	s.state.set(s.sink, true)
	lag := source.Lag{Records: int64(info.NumPending) + int64(info.NumAckPending)}
	if oldest := s.oldest.Load(); oldest != 0 {
		lag.Since = time.Unix(0, oldest)
	}
	s.sink.ReportLag(lag)
}

// activity remembers what has been reported to the Sink, because a report replaces the
// state that Publish sets while it waits.
type activity struct {
	mu       sync.Mutex
	reported bool
	active   bool
}

// set reports whether this client reads the source, if that has changed.
func (a *activity) set(sink *source.Sink, active bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if a.reported && a.active == active {
		return
	}
	a.reported, a.active = true, active
	if active {
		sink.Active()
	} else {
		sink.Standby()
	}
}
