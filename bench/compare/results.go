//go:build linux

package main

import (
	"math"
	"slices"
	"time"

	"github.com/peald/peald/internal/bench"
)

// Results is everything that was measured.
type Results struct {
	Machine Machine
	Took    time.Duration
	Targets []string // in order, the C limit first
	Cells   []Cell
	Alone   *Alone `json:",omitempty"`
}

// Cell is what one target did with one number of streams, in all rounds.
type Cell struct {
	Target  string
	Streams int
	Rounds  []Round
}

// Round is one of a cell's.
type Round struct {
	Round      int
	ConnectCPU float64 // µs a stream
	OpenTime   float64 // s until all were open
	Idle       float64 // resident bytes a stream, once they are open
	After      float64 // the same once the loads are over; 0 where not looked at
	Loads      []Load
}

// Load is what a target did with one load.
type Load struct {
	Size      int
	Burst     int     `json:",omitempty"`
	Asked     float64 `json:",omitempty"` // messages a second
	Rate      float64 `json:",omitempty"` // messages a second that were published; less than asked if the target can't keep up
	CPU       float64 // µs a delivery
	P50, P99  float64 // ms
	PerSecond float64 // deliveries
	Faults    string  `json:",omitempty"`
	Curve     []bench.Quantile
}

// held says that the target could not keep up with what was asked.
func (l Load) held() bool {
	const nearly = 0.95
	return l.Rate < nearly*l.Asked
}

// Alone is what was measured of peald and the C limit only.
type Alone struct {
	HeartbeatStreams int
	HeartbeatCPU     float64 // share of a core

	Slow []SlowRound
	Many []ManyRound
}

// SlowRound compares streams among which some never read with the same without
// them.
type SlowRound struct {
	Readers, Slow, Ended int
	P99Without, P99With  float64 // ms
	Memory               int64   // resident bytes more, at most, than without
}

// slow is the median of each of the rounds' figures.
func (a *Alone) slow() SlowRound {
	of := func(figure func(SlowRound) float64) float64 {
		var values []float64
		for _, round := range a.Slow {
			values = append(values, figure(round))
		}
		return median(values)
	}
	r := a.Slow[0]
	r.P99With = of(func(r SlowRound) float64 { return r.P99With })
	r.P99Without = of(func(r SlowRound) float64 { return r.P99Without })
	r.Ended = int(of(func(r SlowRound) float64 { return float64(r.Ended) }))
	r.Memory = int64(of(func(r SlowRound) float64 { return float64(r.Memory) }))
	return r
}

// ManyRound compares the CPU time of a delivery to many streams with that to
// few, in µs.
type ManyRound struct {
	Target                    string
	FewStreams, ManyStreams   int
	FewCPU, ManyCPU, ManyRate float64
}

// key names what is compared between targets: a load on so many streams.
type key struct{ streams, size, burst int }

// keys are those of all cells, in order.
func (r *Results) keys() []key {
	var all []key
	for _, c := range r.Cells {
		for _, round := range c.Rounds {
			for _, l := range round.Loads {
				if k := (key{c.Streams, l.Size, l.Burst}); !slices.Contains(all, k) {
					all = append(all, k)
				}
			}
		}
	}
	return all
}

// rounds are those of a target with so many streams.
func (r *Results) rounds(target string, streams int) []Round {
	for _, c := range r.Cells {
		if c.Target == target && c.Streams == streams {
			return c.Rounds
		}
	}
	return nil
}

// loads are a target's of one key, by round.
func (r *Results) loads(target string, k key) map[int]Load {
	all := map[int]Load{}
	for _, round := range r.rounds(target, k.streams) {
		for _, l := range round.Loads {
			if l.Size == k.size && l.Burst == k.burst {
				all[round.Round] = l
			}
		}
	}
	return all
}

// figure is the median over the rounds of what of takes from a load.
func (r *Results) figure(target string, k key, of func(Load) float64) float64 {
	var values []float64
	for _, l := range r.loads(target, k) {
		values = append(values, of(l))
	}
	return median(values)
}

// ratio is the median of the target's figure divided by that of the C limit in
// the same round.
func (r *Results) ratio(target string, k key, of func(Load) float64) float64 {
	limits := r.loads(limitName, k)
	var values []float64
	for round, l := range r.loads(target, k) {
		if limit, ok := limits[round]; ok {
			values = append(values, of(l)/of(limit))
		}
	}
	return median(values)
}

// ofStreams is the median over the rounds of what is measured once a round.
func (r *Results) ofStreams(target string, streams int, of func(Round) float64) float64 {
	var values []float64
	for _, round := range r.rounds(target, streams) {
		values = append(values, of(round))
	}
	return median(values)
}

// median is not a number where there are no values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func cpuOf(l Load) float64       { return l.CPU }
func p50Of(l Load) float64       { return l.P50 }
func p99Of(l Load) float64       { return l.P99 }
func perSecondOf(l Load) float64 { return l.PerSecond }
func connectOf(r Round) float64  { return r.ConnectCPU }
func idleOf(r Round) float64     { return r.Idle }

// afterOf is not a number where nobody looked.
func afterOf(r Round) float64 {
	if r.After == 0 {
		return math.NaN()
	}
	return r.After
}
