package broker

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// Histogram is a distribution of observations by size.
type Histogram struct {
	// Bounds holds the inclusive upper bounds of the buckets, in ascending order.
	Bounds []float64
	// Counts[i] is the number of observations above Bounds[i-1] and up to
	// Bounds[i]. Counts has one more element than Bounds, for the observations
	// above all bounds.
	Counts []int64
	// Sum is the sum of all observations.
	Sum float64
}

// Count returns the number of observations.
func (h *Histogram) Count() (n int64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// AtMost returns the number of observations up to bound, which must be one of
// Bounds.
func (h *Histogram) AtMost(bound float64) (n int64) {
	for i, b := range h.Bounds {
		if b > bound {
			break
		}
		n += h.Counts[i]
	}
	return n
}

// histogram counts observations, which are whole numbers of some unit. Only one
// goroutine at a time may add observations; reads may be concurrent.
type histogram struct {
	bounds []int64
	counts []atomic.Int64
	sum    atomic.Uint64 // the bits of a float64, which can't overflow
}

func newHistogram(bounds []int64) histogram {
	return histogram{bounds: bounds, counts: make([]atomic.Int64, len(bounds)+1)}
}

// observe counts an observation of size v.
func (h *histogram) observe(v int64) {
	b := h.bucketOf(v)
	b.observe(v, 1)
	h.add(b)
}

// bucket accumulates observations for one bucket of a histogram. The zero value
// belongs to no bucket.
type bucket struct {
	index       int
	above, upTo int64
	count       int64
	sum         float64
}

// bucketOf returns an empty bucket for observations of size v.
func (h *histogram) bucketOf(v int64) bucket {
	i, _ := slices.BinarySearch(h.bounds, v)
	b := bucket{index: i, above: math.MinInt64, upTo: math.MaxInt64}
	if i > 0 {
		b.above = h.bounds[i-1]
	}
	if i < len(h.bounds) {
		b.upTo = h.bounds[i]
	}
	return b
}

// holds reports whether observations of size v belong to the bucket.
func (b *bucket) holds(v int64) bool { return v > b.above && v <= b.upTo }

func (b *bucket) observe(v, n int64) {
	b.count += n
	b.sum += float64(v) * float64(n)
}

// add adds the observations in b to the histogram.
func (h *histogram) add(b bucket) {
	if b.count > 0 {
		h.counts[b.index].Add(b.count)
		h.sum.Store(math.Float64bits(math.Float64frombits(h.sum.Load()) + b.sum))
	}
}

// addTo adds the observations in h to sum, which must be empty or have the same
// bounds. Observations are divided by unit.
func (h *histogram) addTo(sum *Histogram, unit float64) {
	if sum.Counts == nil {
		sum.Counts = make([]int64, len(h.counts))
		for _, b := range h.bounds {
			sum.Bounds = append(sum.Bounds, float64(b)/unit)
		}
	}
	for i := range h.counts {
		sum.Counts[i] += h.counts[i].Load()
	}
	sum.Sum += math.Float64frombits(h.sum.Load()) / unit
}

// LatencyBuckets returns the bounds of Latency that are round numbers, in seconds.
func LatencyBuckets() []float64 {
	var buckets []float64
	for _, d := range roundLatencies() {
		buckets = append(buckets, d.Seconds())
	}
	return buckets
}

func roundLatencies() []time.Duration {
	const us, ms, s = time.Microsecond, time.Millisecond, time.Second
	return []time.Duration{
		100 * us, 250 * us, 500 * us, 1 * ms, 2500 * us, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms,
		1 * s, 2500 * ms, 5 * s, 10 * s, 30 * s, 60 * s,
	}
}

// LatencySchema is the resolution of Latency, as a schema of Prometheus native
// histograms: besides LatencyBuckets, its bounds are the powers of
// 2^(2^-LatencySchema).
const LatencySchema = 3

// latencyBounds returns bucket bounds in nanoseconds, from about 8 µs to about 9
// minutes.
func latencyBounds() []int64 {
	const perOctave, lowest, highest = 1 << LatencySchema, -17, 9

	var bounds []int64
	for _, d := range roundLatencies() {
		bounds = append(bounds, d.Nanoseconds())
	}
	for k := lowest * perOctave; k <= highest*perOctave; k++ {
		bounds = append(bounds, int64(math.Round(math.Exp2(float64(k)/perOctave)*1e9)))
	}
	slices.Sort(bounds)
	return slices.Compact(bounds)
}

// replayBounds returns bucket bounds, as numbers of events.
func replayBounds() []int64 {
	return []int64{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000}
}
