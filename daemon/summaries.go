package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

const (
	// summaryEvery is the shortest time between two summaries of one cause:
	// thousands of clients may be affected in a second.
	summaryEvery = 10 * time.Second

	// summaryLook is how often new occurrences are looked for, and so the
	// longest that the first of a cause waits for its summary.
	summaryLook = time.Second
)

// occurrence counts what happened to streams for one cause since the start.
type occurrence struct {
	kind  occurrenceKind
	level slog.Level
	count int64
}

// occurrenceKind identifies the summaries of one cause: their message, and an
// attribute.
type occurrenceKind struct{ message, key, value string }

// occurrences returns everything that the log has summaries of.
func (p *parts) occurrences() []occurrence {
	var found []occurrence
	for cause, count := range p.refused() {
		found = append(found, occurrence{occurrenceKind{"streams rejected", "cause", cause}, rejectionLevel(cause), count})
	}

	ended := p.broker.Stats().Total.Disconnected
	for _, reason := range []broker.Reason{broker.SlowConsumer, broker.WriteTimeout} {
		kind := occurrenceKind{"streams closed", "reason", reason.String()}
		found = append(found, occurrence{kind, slog.LevelWarn, ended[reason.String()]})
	}

	return found
}

// rejectionLevel returns the level of summaries of a cause.
func rejectionLevel(cause string) slog.Level {
	switch cause {
	case ssehttp.Full.String(), ssehttp.Rate.String():
		return slog.LevelWarn // the operator can raise a limit
	case noRequest:
		return slog.LevelDebug // browsers, port scans and load balancers do this all the time
	}
	return slog.LevelInfo
}

// summaries logs how often something happened to streams: for each cause at
// most once in summaryEvery, and a last time at the end.
type summaries struct {
	log    *slog.Logger
	read   func() []occurrence
	logged map[occurrenceKind]summary
}

// summary is what was last logged of a cause.
type summary struct {
	at    time.Time
	count int64 // up to then, since the start
}

func newSummaries(log *slog.Logger, read func() []occurrence) *summaries {
	return &summaries{log: log, read: read, logged: make(map[occurrenceKind]summary)}
}

// run logs summaries until ctx ends, and then everything that isn't logged yet.
func (s *summaries) run(ctx context.Context) {
	tick := time.NewTicker(summaryLook)
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

// logNew logs what is new of the causes that were last logged at least a time
// ago.
func (s *summaries) logNew(ago time.Duration) {
	now := time.Now()
	for _, o := range s.read() {
		last, ok := s.logged[o.kind]
		if o.count == last.count || ok && now.Sub(last.at) < ago {
			continue
		}
		s.log.Log(context.Background(), o.level, o.kind.message, o.kind.key, o.kind.value, "count", o.count-last.count)
		s.logged[o.kind] = summary{now, o.count}
	}
}
