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

// report writes the tables alone.
func report(w io.Writer, r *Results) error {
	for _, k := range r.keys() {
		if _, err := fmt.Fprintf(w, "\n%s\n%s\n", k, r.table(k).Render()); err != nil {
			return err
		}
	}
	return nil
}

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

// table compares all targets under one load.
func (r *Results) table(k key) table.Writer {
	header := table.Row{"server", "µs CPU a delivery", "× C limit", "p50 ms", "p99 ms", "× C limit"}
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
			name, decimals(r.figure(name, k, cpuOf), 2), decimals(r.ratio(name, k, cpuOf), 2),
			millis(r.figure(name, k, p50Of)), millis(r.figure(name, k, p99Of)), decimals(r.ratio(name, k, p99Of), 2),
		}
		if k.burst > 0 {
			row = append(row, humanize.Comma(int64(r.figure(name, k, perSecondOf))))
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

// rateText is the rate, with a mark where it is not the one asked for.
func (r *Results) rateText(name string, k key) string {
	rate := r.figure(name, k, func(l Load) float64 { return l.Rate })
	asked := r.figure(name, k, func(l Load) float64 { return l.Asked })
	if (Load{Rate: rate, Asked: asked}).held() {
		return fmt.Sprintf("only %.2g", rate)
	}
	return fmt.Sprintf("%.2g", rate)
}

// faults are those of one of the rounds.
func (r *Results) faults(name string, k key) string {
	for _, l := range r.loads(name, k) {
		if l.Faults != "" {
			return l.Faults
		}
	}
	return ""
}

// memoryTable compares what streams take that only are there.
func (r *Results) memoryTable() table.Writer {
	scales := r.scales()
	header := table.Row{"server"}
	for _, streams := range scales {
		header = append(header, count(streams)+" streams")
	}
	most := scales[len(scales)-1]
	header = append(header, "… after traffic", "µs CPU a connect")
	t := newTable(header)
	for _, name := range r.Targets {
		row := table.Row{name}
		for _, streams := range scales {
			row = append(row, bytesText(r.ofStreams(name, streams, idleOf)))
		}
		t.AppendRow(append(row, bytesText(r.ofStreams(name, most, afterOf)), decimals(r.ofStreams(name, most, connectOf), 1)))
	}
	return t
}

// scales are the numbers of streams of all loads but bursts, ascending.
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

// millis keeps the places that mean something.
func millis(ms float64) string {
	if ms < 10 {
		return decimals(ms, 1)
	}
	return decimals(ms, 0)
}

// behind says, measure by measure, who does better than peald.
func (r *Results) behind() []string {
	const clearly = 0.95
	var lines []string
	for _, k := range r.keys() {
		for _, measure := range []struct {
			name string
			of   func(Load) float64
		}{{"CPU a delivery", cpuOf}, {"p50", p50Of}, {"p99", p99Of}, {"time for all deliveries", func(l Load) float64 {
			if l.Burst == 0 {
				return 1
			}
			return 1 / l.PerSecond
		}}} {
			own := r.figure(pealdName, k, measure.of)
			var better []string
			for _, name := range r.Targets {
				if f := r.figure(name, k, measure.of); name != pealdName && f < clearly*own {
					better = append(better, fmt.Sprintf("%s (%.0f%% of peald's)", name, 100*f/own))
				}
			}
			if len(better) > 0 {
				lines = append(lines, fmt.Sprintf("%s, %s: %s", k, measure.name, strings.Join(better, ", ")))
			}
		}
	}
	own := func(streams int) float64 { return r.ofStreams(pealdName, streams, connectOf) }
	for _, streams := range r.scales() {
		var better []string
		for _, name := range r.Targets {
			if f := r.ofStreams(name, streams, connectOf); f < clearly*own(streams) {
				better = append(better, fmt.Sprintf("%s (%.0f µs, peald %.0f µs)", name, f, own(streams)))
			}
		}
		if len(better) > 0 {
			lines = append(lines, fmt.Sprintf("%s streams, CPU a connect: %s", count(streams), strings.Join(better, ", ")))
		}
	}
	return lines
}
