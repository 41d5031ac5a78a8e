package daemon

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/peald/peald/internal/broker"
)

// figures are what the parts know of themselves, read when metrics are.
type figures struct {
	stats          func() broker.Stats
	refused        func() map[string]int64
	maxConnections int

	connections, maximum, users, published, deliveries    *prometheus.Desc
	connects, disconnects, refusals, dropped, sent, queue *prometheus.Desc
	resumes                                               *prometheus.Desc
}

func newFigures(stats func() broker.Stats, refused func() map[string]int64, maxConnections int) *figures {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("peald_"+name, help, labels, nil)
	}
	return &figures{
		stats:          stats,
		refused:        refused,
		maxConnections: maxConnections,
		connections:    desc("connections", "Open streams."),
		maximum:        desc("max_connections", "Streams that may be open."),
		users:          desc("users", "Users who hold a stream."),
		published:      desc("published_total", "Messages accepted."),
		deliveries:     desc("deliveries_total", "Events handed to sockets."),
		connects:       desc("connects_total", "Streams opened."),
		disconnects:    desc("disconnects_total", "Streams ended.", "reason"),
		refusals:       desc("refused_total", "Requests for streams that were refused.", "reason"),
		dropped:        desc("dropped_total", "Events queued that never got to their socket.", "reason"),
		sent:           desc("sent_bytes_total", "Bytes handed to sockets."),
		queue:          desc("queue_bytes", "Bytes that wait for sockets."),
		resumes:        desc("resumes_total", "Streams that came with a last event id: replayed without a hole, or told of one for a reason.", "outcome"),
	}
}

// Describe implements [prometheus.Collector].
func (f *figures) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		f.connections, f.maximum, f.users, f.published, f.deliveries, f.connects,
		f.disconnects, f.refusals, f.dropped, f.sent, f.queue, f.resumes,
	} {
		ch <- desc
	}
}

// Collect implements [prometheus.Collector].
func (f *figures) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value))
	}
	counter := func(desc *prometheus.Desc, value int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	stats := f.stats()
	gauge(f.connections, int64(stats.Total.Connections))
	gauge(f.maximum, int64(f.maxConnections))
	gauge(f.users, int64(stats.Users))
	gauge(f.queue, stats.Total.QueuedBytes)
	counter(f.published, stats.Published)
	counter(f.deliveries, stats.Total.Delivered)
	counter(f.connects, stats.Total.Connected)
	for reason, n := range f.refused() {
		counter(f.refusals, n, reason)
	}
	counter(f.sent, stats.Total.Bytes)
	counter(f.resumes, stats.Resumes.Replayed, "replayed")
	for reason, n := range stats.Resumes.Resets {
		counter(f.resumes, n, reason)
	}
	for reason, n := range stats.Total.Disconnected {
		counter(f.disconnects, n, reason)
	}
	for reason, n := range stats.Total.Dropped {
		counter(f.dropped, n, reason)
	}
}
