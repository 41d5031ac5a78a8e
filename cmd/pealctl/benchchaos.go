package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/bench"
)

// benchChaos cuts connections at random while it publishes messages, and checks
// that nothing is lost.
func (s *session) benchChaos(ctx context.Context, cfg bench.ChaosConfig) error {
	run := func(publisher *streamPublisher) (*bench.ChaosResult, string, error) {
		if line := statusLine(s.stderr); line != nil {
			cfg.Progress = func(p bench.ChaosProgress) {
				line("%d of %d streams opened, %d of %d messages published, %d cuts, %d messages received", p.Connected, cfg.Clients, p.Published, p.Messages, p.Cuts, p.Received)
			}
		}

		r, err := bench.Chaos(ctx, cfg, publisher)
		if err != nil {
			return nil, "", err
		}
		return r, r.Faults(), nil
	}

	return runTrial(ctx, s, run, func(r *bench.ChaosResult) string {
		return rows(
			"streams", chaosStreams(r),
			"published", fmt.Sprintf("%d messages in %.1fs, %.1f/s", r.Published, r.Seconds, r.Rate),
			"delivered", fmt.Sprintf("%d of %d", r.Received-r.Duplicated-r.Misdirected, r.Expected),
			"errors", fmt.Sprintf("%d lost, %d duplicated, %d out of order, %d misdirected, %d resets", r.Lost, r.Duplicated, r.OutOfOrder, r.Misdirected, r.Resets),
			"clients that keep every id", chaosReader(r.Readers["every_id"]),
			"clients that keep ids of dispatched events", chaosReader(r.Readers["dispatched_ids"]),
		)
	})
}

func chaosStreams(r *bench.ChaosResult) string {
	line := fmt.Sprintf("%d, cut %d times", r.Clients, r.Cuts)
	if r.Rejected > 0 {
		line += fmt.Sprintf("; rejected or closed by the server %d times, the last time: %s", r.Rejected, r.LastRejection)
	}
	return line
}

func chaosReader(r bench.ChaosReader) string {
	return fmt.Sprintf("%d streams, %d lost and %d duplicated of %d", r.Clients, r.Lost, r.Duplicated, r.Expected)
}

// benchResume disconnects all streams, publishes messages, and reconnects all
// streams at the same time.
func (s *session) benchResume(ctx context.Context, cfg bench.MassResumeConfig) error {
	run := func(publisher *streamPublisher) (*bench.MassResumeResult, string, error) {
		if line := statusLine(s.stderr); line != nil {
			cfg.Progress = func(done int) { line("%d of %d streams", done, cfg.Clients) }
		}

		r, err := bench.MassResume(ctx, cfg, publisher)
		if err != nil {
			return nil, "", err
		}
		return r, resumeFaults(r), nil
	}

	return runTrial(ctx, s, run, func(r *bench.MassResumeResult) string {
		return rows(
			"missed", fmt.Sprintf("%d messages each by %d streams, %d published", r.Missed, r.Clients, r.Logged),
			"resumed", resumeTimes(r),
			"errors", fmt.Sprintf("%d streams, %d resets", r.Faults, r.Resets),
		)
	})
}

// resumeFaults describes what went wrong in r, or returns "".
func resumeFaults(r *bench.MassResumeResult) string {
	if r.Faults+r.Resets == 0 {
		return ""
	}

	faults := fmt.Sprintf("%d clients did not receive everything they missed; %d got a peald.reset", r.Faults, r.Resets)
	if r.Resets > 0 {
		faults += fmt.Sprintf(": does the event history hold %d messages (history.max_events)?", r.Logged)
	}
	return faults
}

func resumeTimes(r *bench.MassResumeResult) string {
	if r.Took == 0 {
		return "no stream received everything it missed"
	}
	return fmt.Sprintf("p50 %s, p99 %s, the last after %s", r.P50.Round(time.Millisecond), r.P99.Round(time.Millisecond), r.Took.Round(time.Millisecond))
}

// runTrial calls run and prints its result, as JSON or formatted by text. It
// returns an error if run fails or reports faults.
func runTrial[R any](ctx context.Context, s *session, run func(*streamPublisher) (result R, faults string, err error), text func(R) string) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()

	publisher, err := newStreamPublisher(ctx, pealv1.NewControlServiceClient(conn))
	if err != nil {
		return err
	}
	defer publisher.close()

	result, faults, err := run(publisher)
	if err != nil {
		return err
	}

	var out string
	if s.output.json {
		encoded, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		out = string(encoded)
	} else {
		out = text(result)
	}

	if _, err := fmt.Fprintln(s.stdout, out); err != nil {
		return err
	}
	if faults != "" {
		return errors.New(faults)
	}
	return nil
}

// statusLine returns a function that redraws one line of a terminal, or nil if
// out isn't a terminal. The function is safe for concurrent use.
func statusLine(out io.Writer) func(format string, args ...any) {
	if terminal(out) == nil {
		return nil
	}

	line := newScreen(out)
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_ = line.draw(fmt.Sprintf(format, args...)) // progress is optional
	}
}

// rows formats a table of names and values. The arguments alternate between them.
func rows(cells ...any) string {
	t := newTable()
	for i := 0; i+1 < len(cells); i += 2 {
		t.AppendRow(table.Row{cells[i], cells[i+1]})
	}
	return t.Render()
}
