package load_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/sourcetest"
)

// TestRedisLosesNothing adds entries to streams in Redis, which a cluster publishes, while
// nodes, the event log's leader and Redis are killed and connections break. Each client
// must receive all of its events exactly once and in order.
//
// SOAK_REDIS sets the number of entries. By default, the test is short.
func TestRedisLosesNothing(t *testing.T) {
	t.Parallel()

	entries, load := soakRecords(t, "SOAK_REDIS")
	streams := []string{"events0", "events1", "events2", "events3"}

	server := sourcetest.StartRedis(t)
	source := &testedSource{name: "redis", server: server}
	nodes := source.startNodes(t, server.Addr, func(addr string) map[string]any {
		return map[string]any{"redis": map[string]any{"url": "redis://" + addr, "streams": streams, "delete": true}}
	})
	w := openClusterWorld(t, nodes, load)

	var (
		running  sync.WaitGroup
		produced atomic.Int64
		ended    atomic.Bool
	)
	pause := 20 * time.Millisecond
	if entries > 10_000 {
		pause = 2 * time.Millisecond
	}
	audiences := audiencesOf(w)
	for i, stream := range streams {
		// Only one stream has messages for an audience, so that their order is known.
		var own []string
		for j := i; j < len(audiences); j += len(streams) {
			own = append(own, audiences[j])
		}
		running.Go(func() {
			p := &redisProducer{world: w, audiences: own, produced: &produced, ended: &ended, numbers: make(map[string]int), pause: time.NewTicker(pause)}
			defer p.pause.Stop()
			server.Produce(w.publishing, stream, p.entry)
		})
	}

	started := time.Now()
	source.disrupt(t, w, produced.Load, func() bool { return produced.Load() >= entries }, func() bool { return recent(t.Context(), server, streams) })
	ended.Store(true)

	running.Wait()
	if !pealdtest.Eventually(2*time.Minute, func() bool { return emptied(t.Context(), server, streams) }) {
		t.Error("not all entries are published")
	}
	w.finish(t)
	t.Logf("%d entries in %s", produced.Load(), time.Since(started).Round(time.Second))
}

// redisProducer returns the entries of one stream.
type redisProducer struct {
	world     *clusterWorld
	audiences []string
	produced  *atomic.Int64 // entries of all streams that have been returned
	ended     *atomic.Bool  // there are no further entries
	pause     *time.Ticker  // between entries

	entries [][]string
	numbers map[string]int // the last one of each audience
}

// entry returns the fields of an entry. The same index returns the same fields.
func (p *redisProducer) entry(i int) []string {
	if i < len(p.entries) {
		return p.entries[i]
	}

	<-p.pause.C
	if p.ended.Load() {
		return nil
	}

	audience := p.audiences[rand.IntN(len(p.audiences))]
	p.numbers[audience]++

	field, value := "user_id", audience
	switch {
	case audience == "everyone":
		field, value = "everyone", "true"
	case strings.HasPrefix(audience, "topic"):
		field = "topic"
	}
	fields := []string{field, value, "data", fmt.Sprint(audience, " ", p.numbers[audience])}
	p.entries = append(p.entries, fields)

	// The entry will be stored, however often that fails.
	p.produced.Add(1)
	p.world.mu.Lock()
	p.world.sent[audience] = p.numbers[audience]
	p.world.mu.Unlock()

	return fields
}

// emptied reports whether all streams are empty.
func emptied(ctx context.Context, server *sourcetest.Redis, streams []string) bool {
	return checkStreams(ctx, server, streams, func(oldest time.Time) bool { return oldest.IsZero() })
}

// recent reports whether the oldest entries of all streams are recent.
func recent(ctx context.Context, server *sourcetest.Redis, streams []string) bool {
	return checkStreams(ctx, server, streams, func(oldest time.Time) bool { return oldest.IsZero() || time.Since(oldest) < time.Second })
}

// checkStreams reports whether check returns true for the times of the oldest entries of
// all streams, which are zero for empty streams.
func checkStreams(ctx context.Context, server *sourcetest.Redis, streams []string, check func(oldest time.Time) bool) bool {
	client := server.NewClient()
	defer func() { _ = client.Close() }()

	for _, stream := range streams {
		first, err := client.XRangeN(ctx, stream, "-", "+", 1).Result()
		if err != nil {
			return false
		}

		var oldest time.Time
		if len(first) > 0 {
			text, _, _ := strings.Cut(first[0].ID, "-")
			milliseconds, _ := strconv.ParseInt(text, 10, 64)
			oldest = time.UnixMilli(milliseconds)
		}
		if !check(oldest) {
			return false
		}
	}

	return true
}
