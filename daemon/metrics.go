package daemon

//go:generate go test -run ^TestMetricsAreDocumented$ . -update

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// figures are the daemon's metrics: what the parts know of themselves, read
// when metrics are.
type figures struct {
	sources sources
	metrics []metric
}

// metric is one of them.
type metric struct {
	desc    *prometheus.Desc
	collect func(*reading, chan<- prometheus.Metric)
}

func newFigures(from sources) *figures { return &figures{sources: from, metrics: ownMetrics()} }

// Describe implements [prometheus.Collector].
func (f *figures) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range f.metrics {
		ch <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (f *figures) Collect(ch chan<- prometheus.Metric) {
	now := f.sources.read()
	for _, m := range f.metrics {
		m.collect(now, ch)
	}
}

func descOf(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("peald_"+name, help, labels, nil)
}

// one is a metric without labels.
func one(kind prometheus.ValueType, name, help string, value func(*reading) float64) metric {
	desc := descOf(name, help)
	return metric{desc, func(r *reading, ch chan<- prometheus.Metric) {
		ch <- prometheus.MustNewConstMetric(desc, kind, value(r))
	}}
}

func gauge(name, help string, value func(*reading) int64) metric {
	return one(prometheus.GaugeValue, name, help, func(r *reading) float64 { return float64(value(r)) })
}

func counter(name, help string, value func(*reading) int64) metric {
	return one(prometheus.CounterValue, name, help, func(r *reading) float64 { return float64(value(r)) })
}

// each is a metric with one label, and a value for all that it can say: a
// series that was not there before its first event would show no increase.
func each[N int64 | float64](kind prometheus.ValueType, name, help, label string, values func(*reading) map[string]N) metric {
	desc := descOf(name, help, label)
	return metric{desc, func(r *reading, ch chan<- prometheus.Metric) {
		found := values(r)
		for _, key := range slices.Sorted(maps.Keys(found)) {
			ch <- prometheus.MustNewConstMetric(desc, kind, float64(found[key]), key)
		}
	}}
}
