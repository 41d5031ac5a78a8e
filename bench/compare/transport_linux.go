package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/peald/peald/internal/bench"
)

// transport describes how streams reach a server.
type transport struct {
	name          string
	label         string // a short name for charts
	tls           bool
	http2         bool
	perConnection int
}

// transports returns the transports to compare. The others are compared with the
// first one.
func transports() []transport {
	return []transport{
		{name: "HTTP/1.1", label: "HTTP/1.1"},
		{name: "HTTP/1.1 over TLS", label: "TLS", tls: true},
		{name: "HTTP/2 over TLS, 1 stream per connection", label: "TLS, HTTP/2", tls: true, http2: true, perConnection: 1},
		{name: "HTTP/2 over TLS, 10 streams per connection", label: "TLS, HTTP/2 × 10", tls: true, http2: true, perConnection: 10},
	}
}

// over returns t with streams over another transport.
func (t target) over(by transport) target {
	start := t.start
	if by.tls {
		start = t.secure
	}
	t.start = func(ctx context.Context) (*running, error) {
		r, err := start(ctx)
		if err != nil {
			return nil, err
		}
		r.transport = by
		return r, nil
	}
	t.name += ", " + by.name
	return t
}

// transportRun is a measurement of a target over a transport.
type transportRun struct {
	target target
	scale  scale
}

// transportRuns returns the measurements of one round, for the targets that speak
// TLS, and a cell for each measurement.
func (m *measurement) transportRuns() (runs []transportRun, cells []TransportCell) {
	for _, s := range m.plan.transports {
		for _, t := range m.targets {
			if t.secure == nil {
				continue
			}
			for _, by := range transports() {
				runs = append(runs, transportRun{t.over(by), s})
				cells = append(cells, TransportCell{by.name, Cell{Target: t.name, Streams: s.streams}})
			}
		}
	}
	return runs, cells
}

// transports measures the targets that speak TLS over each transport.
func (m *measurement) transports(ctx context.Context) ([]TransportCell, error) {
	runs, cells := m.transportRuns()
	for round := range m.plan.rounds {
		for i, run := range runs {
			r, err := m.measure(ctx, run.target, run.scale)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}

			m.done++
			m.logProgress(round, run.target, run.scale, r, err)
			if err == nil {
				r.Round = round
				cells[i].Rounds = append(cells[i].Rounds, *r)
			}
		}
	}
	return cells, nil
}

// TransportCell holds the measurements of one target over one transport.
type TransportCell struct {
	Transport string
	Cell
}

// transportScales returns the numbers of streams, ascending.
func (r *Results) transportScales() []int {
	var all []int
	for _, c := range r.Transports {
		all = append(all, c.Streams)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// transportRounds returns the rounds of a target over a transport.
func (r *Results) transportRounds(name, over string, streams int) []Round {
	for _, c := range r.Transports {
		if c.Target == name && c.Transport == over && c.Streams == streams {
			return c.Rounds
		}
	}
	return nil
}

// transportMedian returns the median of a metric over the rounds.
func (r *Results) transportMedian(name, over string, streams int, of func(Round) float64) float64 {
	var values []float64
	for _, round := range r.transportRounds(name, over, streams) {
		values = append(values, of(round))
	}
	return median(values)
}

// transportRatio returns the median, over the rounds, of the metric divided by
// the first transport's metric in the same round.
func (r *Results) transportRatio(name, over string, streams int, of func(Round) float64) float64 {
	var values []float64
	for _, round := range r.transportRounds(name, over, streams) {
		for _, plain := range r.transportRounds(name, transports()[0].name, streams) {
			if plain.Round == round.Round {
				values = append(values, of(round)/of(plain))
			}
		}
	}
	return median(values)
}

// firstCPU returns the CPU time per delivery of the first load.
func firstCPU(r Round) float64 { return r.Loads[0].CPU }

// transportFaults returns the faults of the first round that has any.
func (r *Results) transportFaults(name, over string, streams int) string {
	for _, round := range r.transportRounds(name, over, streams) {
		for _, l := range round.Loads {
			if l.Faults != "" {
				return l.Faults
			}
		}
	}
	return ""
}

// transportTargets returns the targets that were measured over transports.
func (r *Results) transportTargets() []string {
	var names []string
	for _, c := range r.Transports {
		if !slices.Contains(names, c.Target) {
			names = append(names, c.Target)
		}
	}
	return names
}

// transportTable returns a table that compares the transports of each target.
func (r *Results) transportTable() table.Writer {
	scales := r.transportScales()
	header := table.Row{"server, transport"}
	for _, streams := range scales {
		header = append(header, count(streams)+" streams: bytes per stream", "µs CPU per delivery", "× HTTP/1.1", "µs CPU per connect")
	}

	t := newTable(header)
	for _, name := range r.transportTargets() {
		for _, by := range transports() {
			row := table.Row{name + ", " + by.name}
			for _, streams := range scales {
				if faults := r.transportFaults(name, by.name, streams); faults != "" {
					row[0] = fmt.Sprintf("%s, %s (%s)", name, by.name, faults)
				}
				row = append(row,
					bytesText(r.transportMedian(name, by.name, streams, idleOf)),
					decimals(r.transportMedian(name, by.name, streams, firstCPU), 2),
					decimals(r.transportRatio(name, by.name, streams, firstCPU), 2),
					decimals(r.transportMedian(name, by.name, streams, connectOf), 0),
				)
			}
			t.AppendRow(row)
		}
	}

	return t
}

// transportBars returns the bars of each target: the medians of a metric for each
// transport, with the most streams.
func (r *Results) transportBars(of func(Round) float64) (groups []string, bars []bench.Bars) {
	scales := r.transportScales()
	if len(scales) == 0 {
		return nil, nil
	}
	for _, by := range transports() {
		groups = append(groups, by.label)
	}
	for _, name := range r.transportTargets() {
		b := bench.Bars{Name: name}
		for _, by := range transports() {
			b.Values = append(b.Values, r.transportMedian(name, by.name, scales[len(scales)-1], of))
		}
		bars = append(bars, b)
	}
	return groups, bars
}

func (r *Results) plotTransportMemory(w io.Writer) error {
	groups, bars := r.transportBars(idleOf)
	return bench.PlotBars(w, "Memory of an idle stream, by transport", "resident bytes", groups, bars...)
}

func (r *Results) plotTransportCPU(w io.Writer) error {
	groups, bars := r.transportBars(firstCPU)
	return bench.PlotBars(w, "CPU time per delivery of 100 B, by transport", "µs", groups, bars...)
}

// transportsBehind describes the metrics over each transport in which another
// server is clearly better than peald.
func (r *Results) transportsBehind() []string {
	var lines []string
	for _, streams := range r.transportScales() {
		for _, by := range transports() {
			for _, measure := range []struct {
				name string
				of   func(Round) float64
			}{{"bytes per stream", idleOf}, {"CPU per delivery", firstCPU}, {"CPU per connect", connectOf}} {
				own := r.transportMedian(pealdName, by.name, streams, measure.of)
				for _, name := range r.transportTargets() {
					if f := r.transportMedian(name, by.name, streams, measure.of); name != pealdName && f < clearly*own {
						lines = append(lines, fmt.Sprintf("%s streams, %s, %s: %s (%.0f%% of peald's)", count(streams), by.name, measure.name, name, 100*f/own))
					}
				}
			}
		}
	}
	return lines
}
