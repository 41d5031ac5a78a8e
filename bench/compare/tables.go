//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// report writes the tables without the page.
func report(w io.Writer, r *Results) error {
	for _, k := range r.keys() {
		if _, err := fmt.Fprintf(w, "\n%s\n%s\n", k, r.table(k).Render()); err != nil {
			return err
		}
	}
	if len(r.Transports) > 0 {
		if _, err := fmt.Fprintf(w, "\nTransports, messages of 100 B\n%s\n", r.transportTable().Render()); err != nil {
			return err
		}
	}
	return nil
}

// clearly is the ratio below which another server counts as better than peald.
const clearly = 0.95

// String implements [fmt.Stringer].
func (k key) String() string {
	size := fmt.Sprintf("%d B", k.size)
	if k.size >= 1<<10 {
		size = fmt.Sprintf("%d KB", k.size>>10)
	}
	if k.burst > 0 {
		return fmt.Sprintf("%s streams, a burst of %d messages of %s", count(k.streams), k.burst, size)
	}
	return fmt.Sprintf("%s streams, messages of %s", count(k.streams), size)
}

func count(n int) string { return humanize.Comma(int64(n)) }

func newTable(header table.Row) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleRounded)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(header)
	configs := make([]table.ColumnConfig, 0, len(header))
	for i := range header {
		if i > 0 {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.SetColumnConfigs(configs)
	return t
}

// table returns a table that compares all targets under one load.
func (r *Results) table(k key) table.Writer {
	header := table.Row{"server", "µs CPU per delivery", "× C limit", "p50 ms", "p99 ms", "× C limit"}
	if k.burst > 0 {
		header = append(header, "deliveries/s")
	} else {
		header = append(header, "messages/s")
	}

	t := newTable(header)
	for _, name := range r.Targets {
		if len(r.loads(name, k)) == 0 {
			t.AppendRow(table.Row{name, "failed"})
			continue
		}

		row := table.Row{
			name, decimals(r.loadMedian(name, k, cpuOf), 2), decimals(r.ratio(name, k, cpuOf), 2),
			millis(r.loadMedian(name, k, p50Of)), millis(r.loadMedian(name, k, p99Of)), decimals(r.ratio(name, k, p99Of), 2),
		}
		if k.burst > 0 {
			row = append(row, humanize.Comma(int64(r.loadMedian(name, k, perSecondOf))))
		} else {
			row = append(row, r.rateText(name, k))
		}

		if faults := r.faults(name, k); faults != "" {
			row[0] = name + " (" + faults + ")"
		}

		t.AppendRow(row)
	}

	return t
}

// rateText returns the rate, prefixed with "only" if it's less than requested.
func (r *Results) rateText(name string, k key) string {
	rate := r.loadMedian(name, k, func(l Load) float64 { return l.Rate })
	asked := r.loadMedian(name, k, func(l Load) float64 { return l.Asked })
	if (Load{Rate: rate, Asked: asked}).throttled() {
		return fmt.Sprintf("only %.2g", rate)
	}
	return fmt.Sprintf("%.2g", rate)
}

// faults returns the faults of the first round that has any.
func (r *Results) faults(name string, k key) string {
	for _, l := range r.loads(name, k) {
		if l.Faults != "" {
			return l.Faults
		}
	}
	return ""
}

// memoryTable returns a table that compares the memory of idle streams.
func (r *Results) memoryTable() table.Writer {
	scales := r.scales()
	header := table.Row{"server"}

	for _, streams := range scales {
		header = append(header, count(streams)+" streams")
	}

	most := scales[len(scales)-1]
	header = append(header, "… after traffic", "µs CPU per connect")
	t := newTable(header)

	for _, name := range r.Targets {
		row := table.Row{name}
		for _, streams := range scales {
			row = append(row, bytesText(r.roundMedian(name, streams, idleOf)))
		}

		t.AppendRow(append(row, bytesText(r.roundMedian(name, most, afterOf)), decimals(r.roundMedian(name, most, connectOf), 1)))
	}

	return t
}

// scales returns the stream counts of all loads except bursts, in ascending order.
func (r *Results) scales() []int {
	var all []int
	for _, k := range r.keys() {
		if k.burst == 0 && (len(all) == 0 || all[len(all)-1] != k.streams) {
			all = append(all, k.streams)
		}
	}
	return all
}

func bytesText(n float64) string {
	if math.IsNaN(n) {
		return "–"
	}
	return humanize.Comma(int64(math.Round(n)))
}

func decimals(n float64, places int) string {
	if math.IsNaN(n) {
		return "–"
	}
	return fmt.Sprintf("%.*f", places, n)
}

// millis formats milliseconds with a suitable number of decimals.
func millis(ms float64) string {
	if ms < 10 {
		return decimals(ms, 1)
	}
	return decimals(ms, 0)
}

// behind lists, for each metric, the targets that do clearly better than peald.
func (r *Results) behind() []string {
	var lines []string

	for _, k := range r.keys() {
		for _, measure := range []struct {
			name string
			of   func(Load) float64
		}{{"CPU per delivery", cpuOf}, {"p50", p50Of}, {"p99", p99Of}, {"time for all deliveries", func(l Load) float64 {
			if l.Burst == 0 {
				return 1
			}

			return 1 / l.PerSecond
		}}} {
			own := r.loadMedian(pealdName, k, measure.of)
			var better []string

			for _, name := range r.Targets {
				if f := r.loadMedian(name, k, measure.of); name != pealdName && f < clearly*own {
					better = append(better, fmt.Sprintf("%s (%.0f%% of peald's)", name, 100*f/own))
				}
			}

			if len(better) > 0 {
				lines = append(lines, fmt.Sprintf("%s, %s: %s", k, measure.name, strings.Join(better, ", ")))
			}
		}
	}

	own := func(streams int) float64 { return r.roundMedian(pealdName, streams, connectOf) }
	for _, streams := range r.scales() {
		var better []string
		for _, name := range r.Targets {
			if f := r.roundMedian(name, streams, connectOf); f < clearly*own(streams) {
				better = append(better, fmt.Sprintf("%s (%.0f µs, peald %.0f µs)", name, f, own(streams)))
			}
		}

		if len(better) > 0 {
			lines = append(lines, fmt.Sprintf("%s streams, CPU per connect: %s", count(streams), strings.Join(better, ", ")))
		}
	}

	return append(lines, r.transportsBehind()...)
}
