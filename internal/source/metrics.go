package source

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is a metric with one series per source.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s Status, now time.Time) float64
}

func metrics() []metric {
	of := func(kind prometheus.ValueType, name, help string, value func(s Status, now time.Time) float64) metric {
		return metric{prometheus.NewDesc("peald_source_"+name, help, []string{"source"}, nil), kind, value}
	}
	counter := func(name, help string, value func(s Status) int64) metric {
		return of(prometheus.CounterValue, name, help, func(s Status, _ time.Time) float64 { return float64(value(s)) })
	}

	return []metric{
		of(prometheus.GaugeValue, "active", "Whether this node reads the source, or some of its partitions, and can publish.", active),
		of(prometheus.GaugeValue, "lag_records", "Records of the source that aren't published yet; NaN on nodes that don't read the source. Large numbers may be estimates.", lagRecords),
		of(prometheus.GaugeValue, "lag_seconds", "Age of the source's oldest record that isn't published yet; 0 if there is none, NaN on nodes that don't read the source.", lagSeconds),
		counter("published_total", "Records of the source that this node has published, including those that had been published before.",
			func(s Status) int64 { return s.Published }),
		counter("rejected_total", "Records of the source that can't be published.", func(s Status) int64 { return s.Rejected }),
		counter("failures_total", "Failures of the source's reader. It is restarted each time.", func(s Status) int64 { return s.Failures }),
	}
}

func active(s Status, _ time.Time) float64 {
	if s.State == StateActive {
		return 1
	}

	return 0
}

func lagRecords(s Status, _ time.Time) float64 {
	if s.Lag.Records < 0 {
		return math.NaN()
	}

	return float64(s.Lag.Records)
}

func lagSeconds(s Status, now time.Time) float64 {
	switch {
	case !s.Lag.Since.IsZero():
		return max(now.Sub(s.Lag.Since).Seconds(), 0)
	case s.Lag.Records == 0:
		return 0
	default:
		return math.NaN()
	}
}

// Describe implements [prometheus.Collector].
func (m *Manager) Describe(ch chan<- *prometheus.Desc) {
	for _, metric := range m.metrics {
		ch <- metric.desc
	}
}

// Collect implements [prometheus.Collector].
func (m *Manager) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()

	for _, s := range m.Statuses() {
		for _, metric := range m.metrics {
			ch <- prometheus.MustNewConstMetric(metric.desc, metric.kind, metric.value(s, now), s.Name)
		}
	}
}
