//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/peald/peald/internal/bench"
)

// alone runs the measurements that aren't compared between all targets. It
// returns nil if peald isn't among the targets.
func (m *measurement) alone(ctx context.Context) (*Alone, error) {
	at := slices.IndexFunc(m.targets, func(t target) bool { return t.name == pealdName })
	if at < 0 {
		return nil, nil //nolint:nilnil // No peald, no results.
	}
	peald, a := m.targets[at], &Alone{}
	for _, step := range []func(context.Context, target, *Alone) error{m.heartbeats, m.slow, m.many} {
		if err := step(ctx, peald, a); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// heartbeats measures the CPU time of idle streams.
func (m *measurement) heartbeats(ctx context.Context, peald target, a *Alone) error {
	const (
		streams = 15_000
		period  = 30 * time.Second // two heartbeat intervals
	)
	s, err := begin(ctx, peald)
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.open(ctx, streams); err != nil {
		return err
	}

	// Let work left over from opening the streams finish.
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}

	before, err := s.usage()
	if err != nil {
		return err
	}

	began := time.Now()
	if err := sleep(ctx, period); err != nil {
		return err
	}

	after, err := s.usage()
	if err != nil {
		return err
	}

	a.HeartbeatStreams = streams
	a.HeartbeatCPU = (after.cpu - before.cpu).Seconds() / time.Since(began).Seconds()
	fmt.Fprintf(m.progress, "%5s  heartbeats of %d idle streams: %.2f%% of a core\n", time.Since(m.began).Round(time.Second), streams, 100*a.HeartbeatCPU)

	return nil
}

// slow measures how streams that never read affect the other streams.
func (m *measurement) slow(ctx context.Context, peald target, a *Alone) error {
	const readers, never = 200, 50
	for range m.plan.rounds {
		without, err := slowRun(ctx, peald, readers, 0)
		if err != nil {
			return err
		}

		with, err := slowRun(ctx, peald, readers, never)
		if err != nil {
			return err
		}

		r := SlowRound{
			Readers: readers, Slow: never, Ended: with.ended,
			P99Without: without.p99, P99With: with.p99, Memory: with.peak - without.peak,
		}
		a.Slow = append(a.Slow, r)
		fmt.Fprintf(m.progress, "%5s  %d streams that never read: p99 of the others %.2f ms, %.2f ms without; %d closed; %.1f MB more\n",
			time.Since(m.began).Round(time.Second), never, r.P99With, r.P99Without, r.Ended, float64(r.Memory)/1e6)
	}

	return nil
}

type slowResult struct {
	p99   float64
	peak  int64
	ended int
}

// slowRun publishes more data than the kernel's buffers and a stream's queue can
// hold.
func slowRun(ctx context.Context, peald target, readers, never int) (r slowResult, err error) {
	s, err := begin(ctx, peald)
	if err != nil {
		return r, err
	}
	defer s.end()

	began, err := s.usage()
	if err != nil {
		return r, err
	}

	result, err := bench.Measure(ctx, bench.Config{
		URL: s.running.streams, Clients: readers, Slow: never, Patience: 4 * time.Second,
		Load: bench.Load{Size: 16 << 10, Rate: 50, Duration: 8 * time.Second},
		Progress: func(bench.Progress) {
			if now, err := s.usage(); err == nil {
				r.peak = max(r.peak, now.rss-began.rss)
			}
		},
	}, s.publisher)
	if err != nil {
		return r, err
	}

	r.p99 = result.Latency.P99
	if result.SlowEnded != nil {
		r.ended = *result.SlowEnded
	}

	return r, nil
}

// many measures whether a delivery costs more CPU time with many streams.
func (m *measurement) many(ctx context.Context, peald target, a *Alone) error {
	const few, most = 1000, 18_000
	for range m.plan.rounds {
		for _, t := range []target{m.targets[0], peald} {
			low, err := m.measure(ctx, t, scale{streams: few, loads: []bench.Load{steady(small, 10)}})
			if err != nil {
				return err
			}

			high, err := m.measure(ctx, t, scale{streams: most, loads: []bench.Load{steady(small, 10)}})
			if err != nil {
				return err
			}

			r := ManyRound{
				Target: t.name, FewStreams: few, ManyStreams: most,
				FewCPU: low.Loads[0].CPU, ManyCPU: high.Loads[0].CPU, ManyRate: high.Loads[0].Rate,
			}
			a.Many = append(a.Many, r)
			fmt.Fprintf(m.progress, "%5s  %s: %.2f µs per delivery to %d streams, %.2f µs to %d\n",
				time.Since(m.began).Round(time.Second), t.name, r.FewCPU, few, r.ManyCPU, most)
		}
	}

	return nil
}
