package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/listen"
	"github.com/peald/peald/ssehttp"
)

const (
	// summaryEvery is the minimum time between two summaries for the same cause. A
	// single cause may affect thousands of clients within a second.
	summaryEvery = 10 * time.Second

	// summaryTick is the interval at which counters are read, and therefore the
	// maximum delay before the first summary for a cause.
	summaryTick = time.Second
)

// occurrence holds how often streams have been rejected or closed for one cause since
// the daemon started.
type occurrence struct {
	kind  occurrenceKind
	level slog.Level
	count int64
}

// occurrenceKind identifies the summaries for one cause by their log message and an
// attribute.
type occurrenceKind struct{ message, key, value string }

// occurrences returns the counts that are summarized in the log.
func (p *parts) occurrences() []occurrence {
	var found []occurrence
	for cause, count := range p.rejected() {
		found = append(found, occurrence{occurrenceKind{"streams rejected", "cause", cause}, rejectionLevel(cause), count})
	}

	closed := p.broker.Stats().Total.Disconnected
	for _, reason := range []broker.Reason{broker.SlowConsumer, broker.WriteTimeout} {
		kind := occurrenceKind{"streams closed", "reason", reason.String()}
		found = append(found, occurrence{kind, slog.LevelWarn, closed[reason.String()]})
	}

	return found
}

// rejectionLevel returns the level at which summaries for a cause are logged.
func rejectionLevel(cause string) slog.Level {
	switch cause {
	case ssehttp.Full.String(), ssehttp.Rate.String():
		return slog.LevelWarn // the operator can raise a limit
	case listen.NoRequest:
		return slog.LevelDebug // browsers, port scanners and load balancers constantly cause it
	}
	return slog.LevelInfo
}

// summaries logs how often streams have been rejected or closed: at most once per
// summaryEvery for each cause, and a last time when it stops.
type summaries struct {
	log    *slog.Logger
	read   func() []occurrence
	logged map[occurrenceKind]summary
}

// summary records the last summary for a cause.
type summary struct {
	at    time.Time
	count int64 // number of occurrences up to that time, since the daemon started
}

func newSummaries(log *slog.Logger, read func() []occurrence) *summaries {
	return &summaries{log: log, read: read, logged: make(map[occurrenceKind]summary)}
}

// run logs summaries until ctx ends, and then logs a final summary of everything
// that hasn't been logged yet.
func (s *summaries) run(ctx context.Context) {
	tick := time.NewTicker(summaryTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.logNew(0)
			return
		case <-tick.C:
			s.logNew(summaryEvery)
		}
	}
}

// logNew logs summaries for the causes that have new occurrences and haven't been
// logged within the last interval.
func (s *summaries) logNew(interval time.Duration) {
	now := time.Now()
	for _, o := range s.read() {
		last, ok := s.logged[o.kind]
		if o.count == last.count || ok && now.Sub(last.at) < interval {
			continue
		}
		s.log.Log(context.Background(), o.level, o.kind.message, o.kind.key, o.kind.value, "count", o.count-last.count)
		s.logged[o.kind] = summary{now, o.count}
	}
}
