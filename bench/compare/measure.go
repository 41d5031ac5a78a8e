//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/peald/peald/internal/bench"
)

// measurement measures all targets according to a plan.
type measurement struct {
	plan     plan
	targets  []target
	progress io.Writer
	began    time.Time

	// slower is the divisor of the requested rate for a target that failed to
	// sustain that rate.
	slower map[slowKey]float64

	done, total int
}

type slowKey struct {
	target string
	key
}

func (m *measurement) run(ctx context.Context) (*Results, error) {
	m.slower = map[slowKey]float64{}
	over, _ := m.transportRuns()
	m.total = m.plan.rounds * (len(m.plan.scales)*len(m.targets) + len(over))
	results := &Results{}

	for _, t := range m.targets {
		results.Targets = append(results.Targets, t.name)
	}

	for _, s := range m.plan.scales {
		for _, t := range m.targets {
			results.Cells = append(results.Cells, Cell{Target: t.name, Streams: s.streams})
		}
	}

	for round := range m.plan.rounds {
		for i, s := range m.plan.scales {
			for j, t := range m.targets {
				r, err := m.measure(ctx, t, s)
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}

				m.done++
				m.logProgress(round, t, s, r, err)
				if err != nil {
					continue
				}

				r.Round = round
				cell := &results.Cells[i*len(m.targets)+j]
				cell.Rounds = append(cell.Rounds, *r)
			}
		}
	}

	var err error
	if results.Transports, err = m.transports(ctx); err != nil {
		return nil, err
	}

	if m.plan.alone {
		alone, err := m.alone(ctx)
		if err != nil {
			return nil, err
		}

		results.Alone = alone
	}

	results.Took = time.Since(m.began)
	return results, nil
}

// logProgress prints a line of progress with the results of a round.
func (m *measurement) logProgress(round int, t target, s scale, r *Round, err error) {
	fmt.Fprintf(m.progress, "%5s  %2d/%d  round %d  %6d streams  %-10s", time.Since(m.began).Round(time.Second), m.done, m.total, round+1, s.streams, t.name)
	if err != nil {
		fmt.Fprintf(m.progress, "  failed: %v\n", err)
		return
	}

	fmt.Fprintf(m.progress, "  %5.0f B idle  %3.0f µs/connect", r.Idle, r.ConnectCPU)
	for _, l := range r.Loads {
		fmt.Fprintf(m.progress, "  %d B: %.2f µs p99 %.1f ms", l.Size, l.CPU, l.P99)
		if l.throttled() {
			fmt.Fprintf(m.progress, " at %.3g/s", l.Rate)
		}

		if l.Faults != "" {
			fmt.Fprintf(m.progress, " (%s)", l.Faults)
		}
	}

	fmt.Fprintln(m.progress)
}

// session is a running target and its streams.
type session struct {
	*running

	publisher publisher
	streams   *bench.Streams
}

// begin starts a target. First it collects this process's own garbage, so that
// this doesn't happen during the measurement.
func begin(ctx context.Context, t target) (*session, error) {
	debug.FreeOSMemory()
	running, err := t.start(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{running: running, publisher: newPublisher(running)}
	if err := s.warmUp(ctx); err != nil {
		s.end()
		return nil, fmt.Errorf("warm up: %w", err)
	}
	return s, nil
}

// warmUp makes the target do a little of everything, so that one-time
// allocations aren't attributed to streams.
func (s *session) warmUp(ctx context.Context) error {
	const few = 20
	if err := s.open(ctx, few); err != nil {
		return err
	}
	if _, err := s.streams.Measure(ctx, bench.Load{Size: large, Burst: few}); err != nil {
		return err
	}
	s.streams.Close()
	return sleep(ctx, 100*time.Millisecond)
}

func (s *session) open(ctx context.Context, streams int) error {
	var err error
	s.streams, err = bench.Open(ctx, bench.Config{
		URL: s.running.streams, Clients: streams, Readers: readers(), Patience: 4 * time.Second,
		TLS: s.tls, HTTP2: s.transport.http2, PerConnection: s.transport.perConnection,
		Unwrap: s.unwrap,
	}, s.publisher)
	return err
}

// readers returns the number of threads that read streams. Most cores are left
// to the server.
func readers() int { return max(1, runtime.NumCPU()/4) }

func (s *session) end() {
	if s.streams != nil {
		s.streams.Close()
	}
	s.publisher.close()
	s.stop()
}

// measure restarts a target and measures it at one scale.
func (m *measurement) measure(ctx context.Context, t target, sc scale) (*Round, error) {
	s, err := begin(ctx, t)
	if err != nil {
		return nil, err
	}
	defer s.end()

	before, err := s.usage()
	if err != nil {
		return nil, err
	}

	opening := time.Now()
	if err := s.open(ctx, sc.streams); err != nil {
		return nil, err
	}

	r := &Round{OpenTime: time.Since(opening).Seconds()}
	opened, err := s.usage()
	if err != nil {
		return nil, err
	}

	r.ConnectCPU = micros(opened.cpu-before.cpu) / float64(sc.streams)
	if r.Idle, err = s.residentPerStream(ctx, settle, before, sc.streams); err != nil {
		return nil, err
	}

	// Warm up the delivery path.
	if _, err := s.streams.Measure(ctx, bench.Load{Size: small, Burst: 1}); err != nil {
		return nil, err
	}

	for _, load := range sc.loads {
		l, err := m.sustained(ctx, t, s, sc.streams, load)
		if err != nil {
			return nil, err
		}

		r.Loads = append(r.Loads, *l)
	}

	if sc.after > 0 {
		if r.After, err = s.residentPerStream(ctx, sc.after, before, sc.streams); err != nil {
			return nil, err
		}
	}

	return r, nil
}

// residentPerStream waits, and then returns how much resident memory has grown
// since before, in bytes per stream.
func (s *session) residentPerStream(ctx context.Context, wait time.Duration, before usage, streams int) (float64, error) {
	if err := sleep(ctx, wait); err != nil {
		return 0, err
	}
	now, err := s.usage()
	return float64(now.rss-before.rss) / float64(streams), err
}

// sustained measures a load. If the target can't sustain the requested rate, it
// measures again at a lower one.
func (m *measurement) sustained(ctx context.Context, t target, s *session, streams int, load bench.Load) (*Load, error) {
	const steps = 4
	at := slowKey{t.name, key{streams, load.Size, load.Burst}}
	asked := load.Rate

	for step := 0; ; step++ {
		load.Rate = asked / max(1, m.slower[at])
		l, behind, err := s.measure(ctx, load)
		if err != nil {
			return nil, err
		}

		l.Asked = asked
		if !behind || load.Burst > 0 || step == steps {
			return l, nil
		}

		// Retry once at the same rate: the machine may have been busy.
		if step > 0 {
			m.slower[at] = 2 * max(1, m.slower[at])
		}
	}
}

// measure measures one load, and reports whether the target fell behind.
func (s *session) measure(ctx context.Context, load bench.Load) (l *Load, behind bool, err error) {
	before, err := s.usage()
	if err != nil {
		return nil, false, err
	}

	result, err := s.streams.Measure(ctx, load)
	if err != nil {
		return nil, false, err
	}

	after, err := s.usage()
	if err != nil {
		return nil, false, err
	}

	l = &Load{
		Size: load.Size, Burst: load.Burst, Rate: min(load.Rate, result.PublishedPerSec),
		CPU: micros(after.cpu-before.cpu) / float64(max(1, result.Delivered)),
		P50: result.Latency.P50, P99: result.Latency.P99, Curve: result.Latency.Curve,
		PerSecond: result.DeliveredPerSec, Faults: result.Faults(),
	}

	// A server that applies backpressure slows the publisher down. The latency of
	// one that doesn't keeps growing.
	const turns = 2.5
	behind = l.Faults != "" || l.P50 > turns*1000/load.Rate

	return l, behind, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
