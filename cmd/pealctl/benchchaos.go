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

// benchChaos cuts connections at random while messages are published, and
// checks that nothing is lost.
func (s *session) benchChaos(ctx context.Context, cfg bench.ChaosConfig) error {
	return s.trial(ctx, func(publisher *streamPublisher) (any, string, error) {
		if line := statusLine(s.stderr); line != nil {
			cfg.Progress = func(p bench.ChaosProgress) {
				line("%d of %d streams opened, %d of %d messages published, %d cuts, %d messages received", p.Connected, cfg.Clients, p.Published, p.Messages, p.Cuts, p.Received)
			}
		}

		result, err := bench.Chaos(ctx, cfg, publisher)
		if err != nil {
			return nil, "", err
		}

		return result, result.Faults(), nil
	}, func(result any) string {
		r := result.(*bench.ChaosResult) //nolint:forcetypeassert // it is what the function above returns
		return rows(
			"streams", chaosStreams(r),
			"published", fmt.Sprintf("%d messages in %.1fs, %.1f/s", r.Published, r.Seconds, r.Rate),
			"delivered", fmt.Sprintf("%d of %d", r.Received-r.Doubled-r.Misrouted, r.Expected),
			"faults", fmt.Sprintf("%d lost, %d doubled, %d out of order, %d misdirected, %d resets", r.Lost, r.Doubled, r.OutOfOrder, r.Misrouted, r.Resets),
			"clients that keep every id", chaosReader(r.Readers["every_id"]),
			"clients that keep ids of dispatched events", chaosReader(r.Readers["dispatched_ids"]),
		)
	})
}

func comingBack(r *bench.MassResumeResult) string {
	if r.Took == 0 {
		return "none with all that it missed"
	}
	return fmt.Sprintf("p50 %s, p99 %s, the last after %s", r.P50.Round(time.Millisecond), r.P99.Round(time.Millisecond), r.Took.Round(time.Millisecond))
}

func chaosReader(r bench.ChaosReader) string {
	return fmt.Sprintf("%d streams, %d lost and %d doubled of %d", r.Clients, r.Lost, r.Doubled, r.Expected)
}

func chaosStreams(r *bench.ChaosResult) string {
	line := fmt.Sprintf("%d, cut %d times", r.Clients, r.Cuts)
	if r.Refused > 0 {
		line += fmt.Sprintf("; refused or ended by the server %d times", r.Refused)
	}
	return line
}

// benchResume has all streams come back at once after all have missed
// messages.
func (s *session) benchResume(ctx context.Context, cfg bench.MassResumeConfig) error {
	return s.trial(ctx, func(publisher *streamPublisher) (any, string, error) {
		if line := statusLine(s.stderr); line != nil {
			cfg.Progress = func(back int) { line("%d of %d streams", back, cfg.Clients) }
		}

		result, err := bench.MassResume(ctx, cfg, publisher)
		if err != nil {
			return nil, "", err
		}

		faults := ""
		if result.Faults+result.Resets > 0 {
			faults = fmt.Sprintf("%d clients did not get what they missed; %d were told of a hole", result.Faults, result.Resets)
			if result.Resets > 0 {
				faults += fmt.Sprintf(": does the log hold %d messages (history.max_events)?", result.Logged)
			}
		}

		return result, faults, nil
	}, func(result any) string {
		r := result.(*bench.MassResumeResult) //nolint:forcetypeassert // it is what the function above returns
		return rows(
			"missed", fmt.Sprintf("%d messages each by %d streams, %d published", r.Missed, r.Clients, r.Logged),
			"back", comingBack(r),
			"faults", fmt.Sprintf("%d streams, %d resets", r.Faults, r.Resets),
		)
	})
}

// trial runs one kind of bench and shows what came of it. Faults make it fail.
func (s *session) trial(ctx context.Context, run func(*streamPublisher) (any, string, error), text func(any) string) error {
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

// statusLine returns what redraws one line of a terminal, for any goroutine, or
// nil where there is no terminal.
func statusLine(out io.Writer) func(format string, args ...any) {
	if terminal(out) == nil {
		return nil
	}
	line := newScreen(out)
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_ = line.draw(fmt.Sprintf(format, args...)) // only for the eye
	}
}

// rows lays out names and what there is to say of each.
func rows(cells ...any) string {
	t := newTable()
	for i := 0; i+1 < len(cells); i += 2 {
		t.AppendRow(table.Row{cells[i], cells[i+1]})
	}
	return t.Render()
}
