package daemon

import (
	"context"
	"log/slog"
)

// Summarize logs summaries of rejections, whose counts are given by cause, until
// ctx ends.
func Summarize(ctx context.Context, log *slog.Logger, counts map[string]func() int64) {
	newSummaries(log, func() (found []occurrence) {
		for cause, count := range counts {
			found = append(found, occurrence{occurrenceKind{"streams rejected", "cause", cause}, rejectionLevel(cause), count()})
		}
		return found
	}).run(ctx)
}

// Settle waits like a daemon that starts in a cluster. Its node is serving once
// served is closed.
func Settle(ctx context.Context, served chan struct{}, settled func(serving bool)) {
	(&member{served: served}).settle(ctx, settled)
}

// TuneMemory runs tuneMemory.
func TuneMemory(ctx context.Context, accepted func() int64) { tuneMemory(ctx, accepted) }
