//go:build linux

package main

import (
	"math"
	"slices"
	"time"

	"github.com/peald/peald/internal/bench"
)

// Results holds all measurements of a run.
type Results struct {
	Machine Machine
	Took    time.Duration
	Targets []string // in order, the C limit first
	Cells   []Cell

	Transports []TransportCell
	Alone      *Alone `json:",omitempty"`
}

// Cell holds the measurements of one target with one number of streams.
type Cell struct {
	Target  string
	Streams int
	Rounds  []Round
}

// Round holds the measurements of one round.
type Round struct {
	Round      int
	ConnectCPU float64 // µs per stream
	OpenTime   float64 // s until all streams were open
	Idle       float64 // resident bytes per stream, once all are open
	After      float64 // the same after all loads; 0 if not measured
	Loads      []Load
}

// Load holds the measurements of one load.
type Load struct {
	Size      int
	Burst     int     `json:",omitempty"`
	Asked     float64 `json:",omitempty"` // messages per second
	Rate      float64 `json:",omitempty"` // messages per second that were published; less than asked if the target can't sustain that
	CPU       float64 // µs per delivery
	P50, P99  float64 // ms
	PerSecond float64 // deliveries per second
	Faults    string  `json:",omitempty"`
	Curve     []bench.Quantile
}

// throttled reports whether the target couldn't sustain the requested rate.
func (l Load) throttled() bool {
	const nearly = 0.95
	return l.Rate < nearly*l.Asked
}

// Alone holds the measurements that cover only peald and the C limit.
type Alone struct {
	HeartbeatStreams int
	HeartbeatCPU     float64 // share of a core

	Slow []SlowRound
	Many []ManyRound
}

// SlowRound compares reading streams with and without others that never read.
type SlowRound struct {
	Readers, Slow, Ended int
	P99Without, P99With  float64 // ms
	Memory               int64   // resident bytes at the peak, in addition to those without
}

// slow returns the medians over the rounds.
func (a *Alone) slow() SlowRound {
	medianOf := func(metric func(SlowRound) float64) float64 {
		var values []float64
		for _, round := range a.Slow {
			values = append(values, metric(round))
		}
		return median(values)
	}
	r := a.Slow[0]
	r.P99With = medianOf(func(r SlowRound) float64 { return r.P99With })
	r.P99Without = medianOf(func(r SlowRound) float64 { return r.P99Without })
	r.Ended = int(medianOf(func(r SlowRound) float64 { return float64(r.Ended) }))
	r.Memory = int64(medianOf(func(r SlowRound) float64 { return float64(r.Memory) }))
	return r
}

// ManyRound compares the CPU time per delivery with many and with few streams, in
// µs.
type ManyRound struct {
	Target                    string
	FewStreams, ManyStreams   int
	FewCPU, ManyCPU, ManyRate float64
}

// key identifies a load that is compared between targets: the number of streams,
// the message size in bytes, and the messages of a burst or 0.
type key struct{ streams, size, burst int }

// keys returns the keys of all cells, in order.
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

// rounds returns a target's rounds with that number of streams.
func (r *Results) rounds(target string, streams int) []Round {
	for _, c := range r.Cells {
		if c.Target == target && c.Streams == streams {
			return c.Rounds
		}
	}
	return nil
}

// loads returns a target's loads for one key, by round.
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

// loadMedian returns the median of a load's metric over the rounds.
func (r *Results) loadMedian(target string, k key, of func(Load) float64) float64 {
	var values []float64
	for _, l := range r.loads(target, k) {
		values = append(values, of(l))
	}
	return median(values)
}

// ratio returns the median, over the rounds, of the target's metric divided by the
// C limit's metric in the same round.
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

// roundMedian returns the median of a round's metric over the rounds.
func (r *Results) roundMedian(target string, streams int, of func(Round) float64) float64 {
	var values []float64
	for _, round := range r.rounds(target, streams) {
		values = append(values, of(round))
	}
	return median(values)
}

// median returns the median of values, or NaN if there are none.
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

// afterOf returns NaN if memory wasn't measured.
func afterOf(r Round) float64 {
	if r.After == 0 {
		return math.NaN()
	}
	return r.After
}
