package main

import (
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/peald/peald/internal/bench"
)

// benchTable formats a result as a table.
func benchTable(r *bench.Result) string {
	t := newTable()
	t.AppendRow(table.Row{"opened", fmt.Sprintf("%d streams in %s", r.Connect.Count, seconds(r.OpenSeconds))})
	t.AppendRow(table.Row{"", spread(r.Connect) + " per stream"})
	t.AppendRow(table.Row{"published", fmt.Sprintf("%d messages of %d bytes in %s, %.1f/s", r.Published, r.Size, seconds(r.PublishSeconds), r.PublishedPerSec)})
	t.AppendRow(table.Row{"delivered", fmt.Sprintf("%d of %d in %s, %.0f/s", r.Delivered, r.Expected, seconds(r.DeliveringSeconds), r.DeliveredPerSec)})
	t.AppendRow(table.Row{"latency", spread(r.Latency)})
	t.AppendRow(table.Row{"errors", fmt.Sprintf("%d lost, %d duplicated, %d out of order, %d damaged, %d misdirected", r.Lost, r.Duplicated, r.OutOfOrder, r.Damaged, r.Misdirected)})

	for reason, n := range r.Ended {
		t.AppendRow(table.Row{"", fmt.Sprintf("%d streams closed: %s", n, reason)})
	}

	if r.Slow > 0 {
		slow := fmt.Sprintf("%d streams that never read", r.Slow)
		if r.SlowEnded != nil {
			slow += fmt.Sprintf(", %d closed by the server", *r.SlowEnded)
		}
		t.AppendRow(table.Row{"slow", slow})
	}

	if r.Foreign > 0 {
		t.AppendRow(table.Row{"ignored", fmt.Sprintf("%d events from other publishers", r.Foreign)})
	}

	return t.Render()
}

func spread(d bench.Distribution) string {
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, max %s", millis(d.P50), millis(d.P99), millis(d.P999), millis(d.Max))
}

func seconds(s float64) string { return rounded(time.Duration(s * float64(time.Second))) }

func millis(ms float64) string { return rounded(time.Duration(ms * float64(time.Millisecond))) }

// rounded formats d with about three significant digits.
func rounded(d time.Duration) string {
	for unit := time.Second; unit >= time.Microsecond; unit /= 10 {
		if d >= 100*unit {
			return d.Round(unit).String()
		}
	}
	return d.Round(100 * time.Nanosecond).String()
}
