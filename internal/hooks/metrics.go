package hooks

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics holds the descriptions of the hooks' metrics.
type metrics struct {
	sent, snapshots, dropped, retries, requests, pending, sending, failing *prometheus.Desc

	latency *prometheus.HistogramVec
}

func newMetrics() metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("peald_hook_"+name, help, append([]string{"hook"}, labels...), nil)
	}
	return metrics{
		sent:      desc("events_sent_total", "Events that the receiver has accepted."),
		snapshots: desc("snapshots_sent_total", "Snapshots that the receiver has accepted."),
		dropped:   desc("events_dropped_total", "Events that were dropped because too many were waiting. A snapshot replaces them."),
		requests:  desc("requests_total", "Requests to the receiver by result: accepted; resync, because the receiver asked for a snapshot; or failed, which includes those without a response.", "result"),
		retries:   desc("retries_total", "Requests that repeated a failed one."),
		pending:   desc("pending_events", "Events, and names in a snapshot, that wait to be sent."),
		sending:   desc("sending", "Whether this node sends the hook's events."),
		failing:   desc("failing_seconds", "Time since requests began to fail; 0 if the last one was accepted."),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "peald_hook_delivery_seconds",
			Help: "Time from when an event could be sent until the receiver accepted it. " +
				"For departures, it doesn't include the hook's delay.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 100, 300, 1000},
		}, []string{"hook"}),
	}
}

func (m *metrics) describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{m.sent, m.snapshots, m.dropped, m.requests, m.retries, m.pending, m.sending, m.failing} {
		ch <- desc
	}
	m.latency.Describe(ch)
}

func (m *metrics) collect(ch chan<- prometheus.Metric, all []Status, now time.Time) {
	for _, s := range all {
		counter := func(desc *prometheus.Desc, n int64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), append([]string{s.URL}, labels...)...)
		}
		gauge := func(desc *prometheus.Desc, value float64) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, s.URL)
		}

		counter(m.sent, s.Sent)
		counter(m.snapshots, s.Snapshots)
		counter(m.dropped, s.Dropped)
		counter(m.requests, s.Accepted, "accepted")
		counter(m.requests, s.Resyncs, "resync")
		counter(m.requests, s.Failed, "failed")
		counter(m.retries, s.Retried)
		gauge(m.pending, float64(s.Pending))

		sending, failing := 0.0, 0.0
		if s.State == Sending || s.State == Failing {
			sending = 1
		}
		if !s.FailingSince.IsZero() {
			failing = now.Sub(s.FailingSince).Seconds()
		}
		gauge(m.sending, sending)
		gauge(m.failing, failing)
	}
	m.latency.Collect(ch)
}
