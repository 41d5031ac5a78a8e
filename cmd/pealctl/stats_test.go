package main_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	main "github.com/peald/peald/cmd/pealctl"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func someStats(delivered int64) *pealv1.StatsResponse {
	shard := func(number int32) *pealv1.ShardStats {
		return &pealv1.ShardStats{
			Shard: number, Connections: 3, AuthenticatedConnections: 1, Connected: 10,
			Disconnected: map[string]int64{"client": 5, "slow": 2}, Delivered: delivered, Bytes: 4096, QueuedBytes: 17,
		}
	}
	return &pealv1.StatsResponse{
		Total: shard(0), Shards: []*pealv1.ShardStats{shard(0), shard(1)}, Users: 4, Published: 99,
		StartedAt: timestamppb.New(time.Unix(1e9, 0)), Version: "1.2.3", MaxConnections: 1000, Topics: 6,
		// Of every 1000, 800 took up to 1 ms, 150 up to 10 ms, 40 up to 1 s and
		// 10 longer.
		Latency: &pealv1.Histogram{Count: delivered, Buckets: []*pealv1.HistogramBucket{
			{UpperBound: 0.001, Count: delivered * 8 / 10}, {UpperBound: 0.01, Count: delivered * 95 / 100}, {UpperBound: 1, Count: delivered * 99 / 100},
		}},
	}
}

func TestStats(t *testing.T) {
	d := startDaemon(t)
	d.stats = func() *pealv1.StatsResponse { return someStats(1000) }
	r := d.pealctl(t, []string{"stats"})
	for _, part := range []string{"peald 1.2.3", "3 streams", "at most 1000", "4 users", "6 topics", "99 events", "latency p50 625µs, p99 1s, resumed", "7 (client 5, slow 2)", "all"} {
		if r.status != 0 || !strings.Contains(r.stdout, part) {
			t.Errorf("want %q in:\n%s%s", part, r.stdout, r.stderr)
		}
	}

	d.stats = func() *pealv1.StatsResponse {
		s := someStats(1000)
		s.Resumes = &pealv1.Resumes{Replayed: 8}
		s.Since = &pealv1.Resumes{Replayed: 5, Resets: map[string]int64{"expired": 2}}
		s.Rewinds = &pealv1.Resumes{Replayed: 3}
		return s
	}
	if r, want := d.pealctl(t, []string{"stats"}), "resumed 8, reset 0, since 5, reset 2 (expired 2), rewound 3, reset 0\n"; !strings.Contains(r.stdout, want) {
		t.Errorf("want %q in:\n%s%s", want, r.stdout, r.stderr)
	}

	d.stats = func() *pealv1.StatsResponse {
		s := someStats(1000)
		s.Polls = &pealv1.Polls{Waiting: 9, Answered: map[string]int64{"events": 6, "empty": 2}, Abandoned: 4}
		s.Reads = &pealv1.Reads{Broadcast: 1, User: 2, Topic: 4}
		return s
	}
	if r, want := d.pealctl(t, []string{"stats"}), ", polls: 9 waiting, answered 8 (events 6, empty 2), 4 abandoned, 7 pages read\n"; !strings.Contains(r.stdout, want) {
		t.Errorf("want %q in:\n%s%s", want, r.stdout, r.stderr)
	}

	r = d.pealctl(t, []string{"stats", "--output", "json"})
	var reply pealv1.StatsResponse
	if err := protojson.Unmarshal([]byte(r.stdout), &reply); err != nil || reply.GetPublished() != 99 {
		t.Errorf("%q is not a reply: %v", r.stdout, err)
	}
}

func TestLatencies(t *testing.T) {
	histogram := func(counts ...int64) *pealv1.Histogram {
		h := &pealv1.Histogram{Count: counts[len(counts)-1]}
		for i, bound := range []float64{0.000_01, 0.001, 0.01, 1, 64} {
			h.Buckets = append(h.Buckets, &pealv1.HistogramBucket{UpperBound: bound, Count: counts[i]})
		}
		return h
	}
	for _, c := range []struct {
		now, before *pealv1.Histogram
		want        string
	}{
		{nil, nil, "p50 -, p99 -"},
		{histogram(0, 0, 0, 0, 0, 0), nil, "p50 -, p99 -"},
		{histogram(5, 5, 9, 9, 9, 9), histogram(5, 5, 9, 9, 9, 9), "p50 -, p99 -"},
		{histogram(100, 100, 100, 100, 100, 100), nil, "p50 5µs, p99 9.9µs"},
		{histogram(100, 100, 200, 200, 200, 200), histogram(100, 100, 100, 100, 100, 100), "p50 5.5ms, p99 9.91ms"},
		{histogram(0, 0, 0, 0, 50, 100), nil, "p50 1m4s, p99 >1m4s"},
		{histogram(0, 0, 0, 100, 100, 100), nil, "p50 505ms, p99 990ms"},
	} {
		if got := main.Latencies(c.now, c.before); got != c.want {
			t.Errorf("latency of %v since %v is %q, want %q", c.now, c.before, got, c.want)
		}
	}
}

// watched is a running command that continues until it is interrupted.
type watched struct {
	lines  *bufio.Scanner
	stderr bytes.Buffer // must be read only after stop
	stop   func() int
}

func watch(t *testing.T, args ...string) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	w := &watched{lines: bufio.NewScanner(out)}

	var (
		wg   sync.WaitGroup
		code int
	)

	wg.Go(func() {
		code = main.Run(ctx, args, func(string) string { return "" }, strings.NewReader(""), stdout, &w.stderr)
		stdout.Close()
	})

	w.stop = func() int {
		cancel()
		// Nothing reads the output anymore, and a pending write must not block.
		out.Close()
		wg.Wait()
		return code
	}

	t.Cleanup(func() { w.stop() })
	return w
}

// until reads up to a line that contains all parts.
func (w *watched) until(t *testing.T, parts ...string) {
	t.Helper()
	scanUntil(t, w.lines, parts...)
}

func scanUntil(t *testing.T, lines *bufio.Scanner, parts ...string) {
	t.Helper()
	var seen strings.Builder
next:
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		for _, part := range parts {
			if !strings.Contains(lines.Text(), part) {
				continue next
			}
		}
		return
	}
	t.Fatalf("no line with %q in\n%s", parts, seen.String())
}

func TestStatsWatchRatesAndRestart(t *testing.T) {
	d := startDaemon(t)
	var n int64

	d.stats = func() *pealv1.StatsResponse {
		n += 1000
		return someStats(n)
	}

	w := watch(t, "--addr", d.addr, "stats", "--watch", "1ms")
	w.until(t, "99 events published (0.0/s), latency p50 625µs, p99 1s, resumed")
	w.until(t, "SHARD", "EVENTS/S", "CLOSES/S")
	w.until(t, "all")
	d.set(func() { d.fail = status.Error(codes.Unavailable, "stopping") })
	w.until(t, "UNAVAILABLE", "stopping")
	d.set(func() { d.fail = nil })
	w.until(t, "all")
	d.set(func() { d.fail = status.Error(codes.Unauthenticated, "the token was revoked") })

	for w.lines.Scan() {
		continue
	}

	if code := w.stop(); code != 1 || !strings.Contains(w.stderr.String(), "the token was revoked") {
		t.Errorf("status %d after a rejection, stderr %q", code, w.stderr.String())
	}
}

func TestStatsWatchJSON(t *testing.T) {
	d := startDaemon(t)
	d.stats = func() *pealv1.StatsResponse { return someStats(1000) }
	w := watch(t, "--addr", d.addr, "stats", "--watch", "1ms", "--output", "json")
	for range 3 {
		var reply pealv1.StatsResponse
		if !w.lines.Scan() || protojson.Unmarshal(w.lines.Bytes(), &reply) != nil {
			t.Fatalf("%q is not a reply on one line", w.lines.Text())
		}
	}
}

func TestStatsWatchConnectionRefused(t *testing.T) {
	pealctl(t, []string{"--addr", "127.0.0.1:1", "stats", "--watch"}).wantError(t, "UNAVAILABLE")
}
