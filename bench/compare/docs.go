//go:build linux

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/dustin/go-humanize"
	"github.com/peald/peald/internal/bench"
)

//go:embed benchmarks.md.tmpl
var page string

// writeDocs writes benchmarks.md and its plots.
func writeDocs(dir string, r *Results) error {
	t, err := template.New("benchmarks.md").Funcs(template.FuncMap{
		"bytes": humanize.IBytes,
		"count": count,
		"megabytes": func(n int64) string {
			return fmt.Sprintf("%.1f", max(0, float64(n)/1e6))
		},
		"percent": func(share float64) string {
			return fmt.Sprintf("%.1f%%", 100*share)
		},
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("parse benchmarks.md.tmpl: %w", err)
	}

	images := filepath.Join(dir, "img")
	if err := os.MkdirAll(images, 0o755); err != nil { //nolint:gosec // Documentation is public.
		return err
	}

	for name, plot := range map[string]func(io.Writer) error{
		"bench-cpu.svg":     r.plotCPU,
		"bench-memory.svg":  r.plotMemory,
		"bench-latency.svg": r.plotLatency,
		"bench-burst.svg":   r.plotBurst,

		"bench-transport-memory.svg": r.plotTransportMemory,
		"bench-transport-cpu.svg":    r.plotTransportCPU,
	} {
		if err := writeFile(filepath.Join(images, name), plot); err != nil {
			return err
		}
	}

	return writeFile(filepath.Join(dir, "benchmarks.md"), func(w io.Writer) error { return t.Execute(w, r.view()) })
}

func writeFile(path string, write func(io.Writer) error) (err error) {
	file, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := write(file); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// view is the data of the template benchmarks.md.tmpl.
type view struct {
	*Results

	Rounds         int
	Tables, Bursts []namedTable
	Memory         string
	Transports     string // empty if they weren't measured
	Behind         []string
	Slow           SlowRound
	ManyRatios     []manyRatio
}

type namedTable struct{ Name, Table string }

type manyRatio struct {
	Target    string
	Few, Many int
	Ratio     float64
}

func (r *Results) view() view {
	v := view{Results: r, Memory: r.memoryTable().RenderMarkdown(), Behind: r.behind()}
	if len(r.Transports) > 0 {
		v.Transports = r.transportTable().RenderMarkdown()
	}

	for _, k := range r.keys() {
		named := namedTable{k.String(), r.table(k).RenderMarkdown()}
		if k.burst > 0 {
			v.Bursts = append(v.Bursts, named)
		} else {
			v.Tables = append(v.Tables, named)
		}

		v.Rounds = max(v.Rounds, len(r.loads(limitName, k)))
	}

	if r.Alone == nil {
		return v
	}

	v.Slow = r.Alone.slow()
	for _, name := range r.Targets {
		var ratios []float64
		m := manyRatio{Target: name}

		for _, round := range r.Alone.Many {
			if round.Target == name {
				m.Few, m.Many = round.FewStreams, round.ManyStreams
				ratios = append(ratios, round.ManyCPU/round.FewCPU)
			}
		}

		if m.Ratio = median(ratios); len(ratios) > 0 {
			v.ManyRatios = append(v.ManyRatios, m)
		}
	}

	return v
}

// bars returns the bars for each target: the medians of one metric for each key.
func (r *Results) bars(keys []key, of func(Load) float64) []bench.Bars {
	var all []bench.Bars
	for _, name := range r.Targets {
		b := bench.Bars{Name: name}
		for _, k := range keys {
			b.Values = append(b.Values, r.loadMedian(name, k, of))
		}
		all = append(all, b)
	}
	return all
}

func (r *Results) steadyKeys() []key {
	return slices.DeleteFunc(r.keys(), func(k key) bool { return k.burst > 0 })
}

func (r *Results) plotCPU(w io.Writer) error {
	var groups []string
	for _, k := range r.steadyKeys() {
		size := "100 B"
		if k.size > small {
			size = "4 KB"
		}
		groups = append(groups, fmt.Sprintf("%s · %s", count(k.streams), size))
	}
	return bench.PlotBars(w, "CPU time per delivery, by streams and message size", "µs", groups, r.bars(r.steadyKeys(), cpuOf)...)
}

func (r *Results) plotMemory(w io.Writer) error {
	var groups []string
	for _, streams := range r.scales() {
		groups = append(groups, count(streams)+" streams")
	}
	var all []bench.Bars
	for _, name := range r.Targets {
		b := bench.Bars{Name: name}
		for _, streams := range r.scales() {
			b.Values = append(b.Values, r.roundMedian(name, streams, idleOf))
		}
		all = append(all, b)
	}
	return bench.PlotBars(w, "Memory of an idle stream", "resident bytes", groups, all...)
}

// plotLatency plots, for each target, the round with the median p99.
func (r *Results) plotLatency(w io.Writer) error {
	at := slices.IndexFunc(r.steadyKeys(), func(k key) bool { return k.streams == 5000 })
	k := r.steadyKeys()[max(at, 0)]
	var series []bench.Series

	for _, name := range r.Targets {
		middle := r.loadMedian(name, k, p99Of)
		nearest := Load{P99: math.Inf(1)}

		for _, l := range r.loads(name, k) {
			if math.Abs(l.P99-middle) < math.Abs(nearest.P99-middle) {
				nearest = l
			}
		}

		if nearest.Curve != nil {
			series = append(series, bench.Series{Name: name, Distribution: bench.Distribution{Curve: nearest.Curve}})
		}
	}

	return bench.PlotLatency(w, "Latency of "+strings.ReplaceAll(k.String(), ", ", " and ")+", 10 per second", series...)
}

func (r *Results) plotBurst(w io.Writer) error {
	bursts := slices.DeleteFunc(r.keys(), func(k key) bool { return k.burst == 0 })
	var groups []string
	for _, k := range bursts {
		groups = append(groups, k.String())
	}
	return bench.PlotBars(w, "Burst", "deliveries per second", groups, r.bars(bursts, perSecondOf)...)
}
