package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
		if isMissing(err) {
			continue // the group hasn't been created yet
		}
		if err != nil {
			return total, fmt.Errorf("stream %q: measuring the lag: %w", name, err)
		}

		if total.Records += lag.Records; lag.Records < 0 {
			return source.Lag{Records: -1}, nil
		}
		if total.Since.IsZero() || !lag.Since.IsZero() && lag.Since.Before(total.Since) {
			total.Since = lag.Since
		}
	}

	return total, nil
}

// streamLag returns the lag of one stream.
func (r *reader) streamLag(ctx context.Context, client goredis.UniversalClient, name string) (source.Lag, error) {
	group, err := r.group(ctx, client, name)
	if err != nil {
		return source.Lag{}, err
	}

	oldest, err := r.oldest(ctx, client, name, group)
	if err != nil || oldest == "" {
		return source.Lag{}, err
	}

	lag := source.Lag{Records: group.Lag + group.Pending, Since: timeOf(oldest, time.Now())}
	if group.Lag < 0 {
		lag.Records = -1 // Redis can't determine it
	}

	return lag, nil
}

// oldest returns the id of the oldest entry that isn't acknowledged, or "".
func (r *reader) oldest(ctx context.Context, client goredis.UniversalClient, name string, group goredis.XInfoGroup) (string, error) {
	if group.Pending > 0 {
		pending, err := client.XPending(ctx, name, r.cfg.Group).Result()
		if err != nil {
			return "", err
		}
		if pending.Lower != "" {
			return pending.Lower, nil
		}
	}

	next, err := client.XRangeN(ctx, name, "("+group.LastDeliveredID, "+", 1).Result()
	if err != nil || len(next) == 0 {
		return "", err
	}

	return next[0].ID, nil
}

// errNoGroup is returned if a stream has no consumer group with the configured name.
var errNoGroup = errors.New("there is no such consumer group")

// isMissing reports whether err means that the stream or the consumer group is missing.
func isMissing(err error) bool {
	return errors.Is(err, errNoGroup) || goredis.HasErrorPrefix(err, "NOGROUP") || goredis.HasErrorPrefix(err, "no such key")
}

// group returns the state of the consumer group of a stream.
func (r *reader) group(ctx context.Context, client goredis.UniversalClient, name string) (goredis.XInfoGroup, error) {
	groups, err := client.XInfoGroups(ctx, name).Result()
	if err != nil {
		return goredis.XInfoGroup{}, err
	}

	i := slices.IndexFunc(groups, func(g goredis.XInfoGroup) bool { return g.Name == r.cfg.Group })
	if i < 0 {
		return goredis.XInfoGroup{}, errNoGroup
	}

	return groups[i], nil
}
