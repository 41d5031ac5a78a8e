package daemon

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is one metric of a collector.
type metric struct {
	desc    *prometheus.Desc
	collect func(*reading, chan<- prometheus.Metric)
}

func descOf(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("peald_"+name, help, labels, nil)
}

// one returns a metric without labels.
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

// each returns a metric with one label. The function values must always return all
// values of the label: a series that appears only with its first event shows no
// increase.
func each[N int64 | float64](kind prometheus.ValueType, name, help, label string, values func(*reading) map[string]N) metric {
	desc := descOf(name, help, label)

	return metric{desc, func(r *reading, ch chan<- prometheus.Metric) {
		found := values(r)
		for _, key := range slices.Sorted(maps.Keys(found)) {
			ch <- prometheus.MustNewConstMetric(desc, kind, float64(found[key]), key)
		}
	}}
}
