package source

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is a metric with one series per source.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s Status, now time.Time) (value float64, ok bool)
}

func metrics() []metric {
	of := func(kind prometheus.ValueType, name, help string, value func(s Status, now time.Time) (float64, bool)) metric {
		return metric{prometheus.NewDesc("peald_source_"+name, help, []string{"source"}, nil), kind, value}
	}
	counter := func(name, help string, value func(s Status) int64) metric {
		return of(prometheus.CounterValue, name, help, func(s Status, _ time.Time) (float64, bool) { return float64(value(s)), true })
	}

	return []metric{
		of(prometheus.GaugeValue, "active", "Whether this node reads the source, or some of its partitions.",
			func(s Status, _ time.Time) (float64, bool) {
				if s.State == StateActive {
					return 1, true
				}
				return 0, true
			}),
		of(prometheus.GaugeValue, "lag_records", "Records of the source that aren't published yet. Only nodes that read the source report it.",
			func(s Status, _ time.Time) (float64, bool) { return float64(s.Lag.Records), s.Lag.Records >= 0 }),
		of(prometheus.GaugeValue, "lag_seconds", "Age of the source's oldest record that isn't published yet; 0 if there is none. Only nodes that read the source report it.",
			func(s Status, now time.Time) (float64, bool) {
				if s.Lag.Since.IsZero() {
					return 0, s.Lag.Records == 0
				}
				return max(now.Sub(s.Lag.Since).Seconds(), 0), true
			}),
		counter("published_total", "Records of the source that this node has published, including those that had been published before.",
			func(s Status) int64 { return s.Published }),
		counter("rejected_total", "Records of the source that can't be published.", func(s Status) int64 { return s.Rejected }),
		counter("failures_total", "Failures of the source's reader. It is restarted each time.", func(s Status) int64 { return s.Failures }),
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
			if value, ok := metric.value(s, now); ok {
				ch <- prometheus.MustNewConstMetric(metric.desc, metric.kind, value, s.Name)
			}
		}
	}
}
