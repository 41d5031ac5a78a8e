package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/peald/peald/internal/source"
)

// reportLag reports the lag of the held streams until ctx ends.
func (r *reader) reportLag(ctx context.Context, client goredis.UniversalClient, held *heldStreams, sink *source.Sink) error {
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()

	for {
		if names := held.list(); len(names) > 0 {
			lag, err := r.lagOf(ctx, client, names)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			sink.ReportLag(lag)
		}

		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// lagOf returns the lag of the given streams together.
func (r *reader) lagOf(ctx context.Context, client goredis.UniversalClient, streams []string) (source.Lag, error) {
	var total source.Lag

	for _, name := range streams {
		lag, err := r.streamLag(ctx, client, name)

		switch {
		case goredis.HasErrorPrefix(err, "NOGROUP"), goredis.HasErrorPrefix(err, "no such key"):
			// The group hasn't been created yet.
		case err != nil:
			return total, fmt.Errorf("stream %q: measuring the lag: %w", name, err)
		}

		if lag.Records < 0 || total.Records < 0 {
			total.Records = -1
		} else {
			total.Records += lag.Records
		}
		if total.Since.IsZero() || !lag.Since.IsZero() && lag.Since.Before(total.Since) {
			total.Since = lag.Since
		}
	}

	return total, nil
}

// streamLag returns the lag of one stream.
func (r *reader) streamLag(ctx context.Context, client goredis.UniversalClient, name string) (lag source.Lag, err error) {
	group, err := r.group(ctx, client, name)
	if err != nil || group == nil {
		return lag, err
	}

	lag.Records = -1
	if group.Lag >= 0 {
		lag.Records = group.Lag + group.Pending
	}

	var oldest string
	if group.Pending > 0 {
		pending, err := client.XPending(ctx, name, r.cfg.Group).Result()
		if err != nil {
			return lag, err
		}
		oldest = pending.Lower
	} else if group.Lag != 0 {
		next, err := client.XRangeN(ctx, name, "("+group.LastDeliveredID, "+", 1).Result()
		if err != nil {
			return lag, err
		}
		if len(next) > 0 {
			oldest = next[0].ID
		}
		if len(next) == 0 && lag.Records < 0 {
			lag.Records = 0
		}
	}
	lag.Since = timeOf(oldest, time.Now())

	return lag, nil
}

// group returns the state of the consumer group of a stream, or nil if there is none.
func (r *reader) group(ctx context.Context, client goredis.UniversalClient, name string) (*goredis.XInfoGroup, error) {
	groups, err := client.XInfoGroups(ctx, name).Result()
	if err != nil {
		return nil, err
	}

	for i := range groups {
		if groups[i].Name == r.cfg.Group {
			return &groups[i], nil
		}
	}

	return nil, nil
}
