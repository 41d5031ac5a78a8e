package daemon

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/peald/peald/internal/broker"
)

// latencyMetric returns the delivery latency as both a classic and a native histogram.
// Prometheus uses whichever it is configured for.
func latencyMetric(name, help string) metric {
	desc := descOf(name, help)

	return metric{desc, func(r *reading, ch chan<- prometheus.Metric) {
		ch <- bothHistograms{native: native(desc, r.latency, r), classic: classic(desc, r.latency, broker.LatencyBuckets())}
	}}
}

func replaysMetric(name, help string) metric {
	desc := descOf(name, help)

	return metric{desc, func(r *reading, ch chan<- prometheus.Metric) {
		ch <- classic(desc, r.replays, r.replays.Bounds)
	}}
}

func handshakesMetric(name, help string) metric {
	desc := descOf(name, help)

	return metric{desc, func(r *reading, ch chan<- prometheus.Metric) {
		ch <- classic(desc, r.handshakes.Seconds, r.handshakes.Seconds.Bounds)
	}}
}

// classic returns h as a classic histogram with the given bucket bounds.
func classic(desc *prometheus.Desc, h broker.Histogram, bounds []float64) prometheus.Metric {
	buckets := make(map[float64]uint64, len(bounds))
	for _, bound := range bounds {
		buckets[bound] = uint64(h.AtMost(bound))
	}

	return prometheus.MustNewConstHistogram(desc, uint64(h.Count()), h.Sum, buckets)
}

// native returns h as a native histogram, merging its buckets. Values above all bounds
// go into the bucket after the last one, because a native histogram has no infinite
// bucket.
func native(desc *prometheus.Desc, h broker.Histogram, r *reading) prometheus.Metric {
	const perOctave = 1 << broker.LatencySchema

	buckets := make(map[int]int64)
	last := 0
	for i, bound := range h.Bounds {
		// Bounds are rounded to nanoseconds.
		last = int(math.Ceil(math.Log2(bound)*perOctave - 0.01))
		if n := h.Counts[i]; i > 0 && n > 0 {
			buckets[last] += n
		}
	}
	if n := h.Counts[len(h.Bounds)]; n > 0 {
		buckets[last+1] += n
	}

	return prometheus.MustNewConstNativeHistogram(desc, uint64(h.Count()), h.Sum, buckets, nil,
		uint64(h.Counts[0]), broker.LatencySchema, h.Bounds[0], r.StartedAt)
}

// bothHistograms is a single metric with the buckets of both a native and a classic
// histogram.
type bothHistograms struct{ native, classic prometheus.Metric }

// Desc implements [prometheus.Metric].
func (b bothHistograms) Desc() *prometheus.Desc { return b.native.Desc() }

// Write implements [prometheus.Metric].
func (b bothHistograms) Write(out *dto.Metric) error {
	var classic dto.Metric
	if err := b.classic.Write(&classic); err != nil {
		return err
	}
	if err := b.native.Write(out); err != nil {
		return err
	}
	out.Histogram.Bucket = classic.GetHistogram().GetBucket()

	return nil
}
