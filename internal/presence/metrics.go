package presence

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// metrics holds the counters of a directory, and the descriptions of its gauges.
type metrics struct {
	sent, received, sentBytes, receivedBytes, pulls, unanswered prometheus.Counter

	nodes, silence, streams, users *prometheus.Desc
}

func newMetrics() metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "peald_cluster_" + name, Help: help})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("peald_cluster_"+name, help, labels, nil)
	}
	return metrics{
		sent:          counter("announcements_sent_total", "Announcements sent to other nodes."),
		received:      counter("announcements_received_total", "Announcements received from other nodes."),
		sentBytes:     counter("presence_sent_bytes_total", "Bytes of announcements, queries and replies sent to other nodes."),
		receivedBytes: counter("presence_received_bytes_total", "Bytes of announcements and state received from other nodes."),
		pulls:         counter("state_requests_total", "Requests for another node's full state, made because the node was new or an announcement was missed."),
		unanswered:    counter("unanswered_total", "Queries that another node did not answer in time."),
		nodes:         desc("nodes", "Nodes of the cluster by state, including this one.", "state"),
		silence:       desc("silence_seconds", "Longest time since a node's last announcement, not counting lost nodes."),
		streams:       desc("streams_elsewhere", "Streams on other nodes, as those nodes announced them."),
		users:         desc("users_elsewhere", "Users with streams on other nodes, as those nodes announced them. A user is counted once per node."),
	}
}

// stateNames returns the values of the state label.
func stateNames() map[pealv1.NodeState]string {
	return map[pealv1.NodeState]string{
		pealv1.NodeState_NODE_STATE_SERVING:     "serving",
		pealv1.NodeState_NODE_STATE_NOT_SERVING: "not_serving",
		pealv1.NodeState_NODE_STATE_DRAINING:    "draining",
		pealv1.NodeState_NODE_STATE_LOST:        "lost",
		pealv1.NodeState_NODE_STATE_ABSENT:      "absent",
	}
}

func (m *metrics) counters() []prometheus.Collector {
	return []prometheus.Collector{m.sent, m.received, m.sentBytes, m.receivedBytes, m.pulls, m.unanswered}
}

// Describe implements [prometheus.Collector].
func (d *Directory) Describe(ch chan<- *prometheus.Desc) {
	m := &d.metrics
	for _, c := range m.counters() {
		c.Describe(ch)
	}
	for _, desc := range []*prometheus.Desc{m.nodes, m.silence, m.streams, m.users} {
		ch <- desc
	}
}

// Collect implements [prometheus.Collector].
func (d *Directory) Collect(ch chan<- prometheus.Metric) {
	m := &d.metrics
	for _, c := range m.counters() {
		c.Collect(ch)
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}

	byState := make(map[pealv1.NodeState]int)
	for _, n := range d.Nodes() {
		byState[n.GetState()]++
	}
	for state, name := range stateNames() {
		gauge(m.nodes, float64(byState[state]), name)
	}

	var (
		silence        time.Duration
		streams, users int
	)
	now := time.Now()
	d.mu.RLock()
	for _, n := range d.nodes {
		if !n.lost {
			silence = max(silence, now.Sub(n.seen))
		}
		if n.counts != nil {
			streams, users = streams+n.counts.streams, users+len(n.counts.users)
		}
	}

	d.mu.RUnlock()
	gauge(m.silence, silence.Seconds())
	gauge(m.streams, float64(streams))
	gauge(m.users, float64(users))
}
