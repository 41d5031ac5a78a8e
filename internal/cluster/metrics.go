package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics holds the counters of a node, and the descriptions of its gauges.
type metrics struct {
	appends        prometheus.Histogram
	batches        prometheus.Histogram
	appendRetries  prometheus.Counter
	appendsGivenUp prometheus.Counter
	gapFills       prometheus.CounterFunc

	serving, quorum, leads, entries, applied, lag, behind, members *prometheus.Desc
}

func newMetrics(n *Node) *metrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("peald_cluster_"+name, help, nil, nil)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "peald_cluster_" + name, Help: help})
	}
	return &metrics{
		appends: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "peald_cluster_append_seconds",
			Help:    "Time until the event log has stored a batch of messages.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "peald_cluster_append_messages",
			Help:    "Messages per batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		appendRetries:  counter("append_retries_total", "Failed attempts to append a batch to the event log."),
		appendsGivenUp: counter("appends_given_up_total", "Batches that the event log did not store in time."),
		gapFills: prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "peald_cluster_gap_fills_total", Help: "Requests for entries of the event log that the node didn't receive live.",
		}, func() float64 { return float64(n.gapFills.Load()) }),
		serving: desc("serving", "Whether the node has caught up with the event log, and can publish."),
		quorum:  desc("quorum", "Whether the event log's leader has replied recently and has a quorum of followers."),
		leads:   desc("leads", "Whether the node leads the event log."),
		entries: desc("log_entry", "The last entry that the event log is known to have."),
		applied: desc("applied_entry", "The last entry of the event log that the node has applied."),
		lag:     desc("lag_entries", "Entries of the event log that the node has yet to apply."),
		behind:  desc("replica_lag_entries", "Entries that the slowest follower lacks, on the leader of the event log; 0 on other nodes."),
		members: desc("log_replicas", "Replicas of the event log that are in contact with its leader, including the leader."),
	}
}

func (m *metrics) appended(took time.Duration, messages int) {
	m.appends.Observe(took.Seconds())
	m.batches.Observe(float64(messages))
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.appends, m.batches, m.appendRetries, m.appendsGivenUp, m.gapFills}
}

// Describe implements [prometheus.Collector].
func (n *Node) Describe(ch chan<- *prometheus.Desc) {
	m := n.metrics
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.serving, m.quorum, m.leads, m.entries, m.applied, m.lag, m.behind, m.members} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (n *Node) Collect(ch chan<- prometheus.Metric) {
	m := n.metrics
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	number := map[bool]float64{true: 1}

	n.mu.Lock()
	s := n.state
	n.mu.Unlock()
	applied := n.applied.Load()
	following := countFollowing(s.members)
	if time.Since(s.quorumAt) >= replicaSilence {
		following = 0 // unknown
	}

	gauge(m.serving, number[s.serving])
	gauge(m.quorum, number[time.Since(s.quorumAt) < replicaSilence])
	gauge(m.leads, number[s.leader == n.name])
	gauge(m.entries, float64(max(s.known, applied)))
	gauge(m.applied, float64(applied))
	gauge(m.lag, float64(max(s.known, applied)-applied))
	behind := uint64(0)
	if s.leader == n.name {
		behind = maxLag(s.members)
	}
	gauge(m.behind, float64(behind))
	gauge(m.members, float64(following))
}

// maxLag returns the largest lag among the replicas that are in contact with the
// leader.
func maxLag(members []Member) (lag uint64) {
	for _, m := range members {
		if m.Silent < replicaSilence {
			lag = max(lag, m.Lag)
		}
	}
	return lag
}
