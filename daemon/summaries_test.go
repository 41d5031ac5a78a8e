package daemon_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/testbed"
)

// TestSummaries counts rejections at exact times, which needs a fake clock.
func TestSummaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testbed.Log
		var tokens, full atomic.Int64

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})

		go func() {
			defer close(done)

			daemon.Summarize(ctx, slog.New(slog.NewTextHandler(&log, nil)), map[string]func() int64{
				"token": tokens.Load, "max_connections": full.Load,
			})
		}()

		// within returns the lines that are logged during d, without their times.
		within := func(d time.Duration) string {
			time.Sleep(d)
			synctest.Wait()

			var lines []string
			for line := range strings.Lines(log.Take()) {
				_, line, _ = strings.Cut(line, " ")
				lines = append(lines, strings.TrimSpace(line))
			}

			return strings.Join(lines, "; ")
		}

		const (
			token = `level=INFO msg="streams rejected" cause=token count=`
			limit = `level=WARN msg="streams rejected" cause=max_connections count=`
		)

		time.Sleep(time.Millisecond) // so that no step coincides with a tick

		for i, step := range []struct {
			tokens, full int64
			then         time.Duration
			want         string
		}{
			{0, 0, time.Minute, ""},
			{3, 0, time.Second, token + "3"}, // the first is logged within a second
			{1, 0, 8 * time.Second, ""},
			{2, 0, 2 * time.Second, token + "3"},
			{0, 0, time.Minute, ""}, // nothing new
			{1, 0, time.Second, token + "1"},
			{2, 3000, time.Second, limit + "3000"}, // each cause has its own interval
			{0, 0, 9 * time.Second, token + "2"},
			{5, 0, 5 * time.Second, ""},
		} {
			tokens.Add(step.tokens)
			full.Add(step.full)

			if got := within(step.then); got != step.want {
				t.Errorf("step %d: the log is %q, want %q", i, got, step.want)
			}
		}

		tokens.Add(1)
		stop()
		<-done

		if got, want := within(0), token+"6"; got != want {
			t.Errorf("at the end the log is %q, want %q", got, want)
		}
	})
}
