package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// figures are what a node counts.
type figures struct {
	node *Node

	appends        prometheus.Histogram
	batches        prometheus.Histogram
	appendRetries  prometheus.Counter
	appendsGivenUp prometheus.Counter
	gapFills       prometheus.CounterFunc

	serving, quorum, leads, entries, applied, lag, behind, members *prometheus.Desc
}

func newFigures(n *Node) *figures {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("peald_cluster_"+name, help, nil, nil)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "peald_cluster_" + name, Help: help})
	}
	return &figures{
		node: n,
		appends: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "peald_cluster_append_seconds",
			Help:    "Time until the cluster's log had a batch of messages.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "peald_cluster_append_messages",
			Help:    "Messages in a batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		appendRetries:  counter("append_retries_total", "Attempts to append to the cluster's log that failed and were repeated."),
		appendsGivenUp: counter("appends_given_up_total", "Batches that the cluster's log has not taken in time."),
		gapFills: prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "peald_cluster_gap_fills_total", Help: "Times that entries of the cluster's log were read again, since they did not come by themselves.",
		}, func() float64 { return float64(n.gapFills.Load()) }),
		serving: desc("serving", "Whether the node has its cluster's log, up to now, and can publish."),
		quorum:  desc("quorum", "Whether the log's leader has answered lately, and enough replicas follow it."),
		leads:   desc("leads", "Whether the node leads the cluster's log."),
		entries: desc("log_entry", "The last entry that the cluster's log is known to have."),
		applied: desc("applied_entry", "The last entry of the cluster's log that the node has taken in."),
		lag:     desc("lag_entries", "Entries of the cluster's log that the node has yet to take in."),
		behind:  desc("replica_lag_entries", "Entries that the slowest replica that follows has yet to get, on the node that leads the cluster's log; else 0."),
		members: desc("log_replicas", "Replicas of the cluster's log that follow, its leader among them."),
	}
}

func (f *figures) appended(took time.Duration, messages int) {
	f.appends.Observe(took.Seconds())
	f.batches.Observe(float64(messages))
}

// Describe implements [prometheus.Collector].
func (n *Node) Describe(ch chan<- *prometheus.Desc) {
	f := n.figures
	for _, c := range []prometheus.Collector{f.appends, f.batches, f.appendRetries, f.appendsGivenUp, f.gapFills} {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{f.serving, f.quorum, f.leads, f.entries, f.applied, f.lag, f.behind, f.members} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (n *Node) Collect(ch chan<- prometheus.Metric) {
	f := n.figures
	for _, c := range []prometheus.Collector{f.appends, f.batches, f.appendRetries, f.appendsGivenUp, f.gapFills} {
		c.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	yes := map[bool]float64{true: 1}
	n.mu.Lock()
	s := n.state
	n.mu.Unlock()
	applied := n.applied.Load()
	following := follow(s.members)
	if time.Since(s.quorum) >= replicaSilence {
		following = 0 // as far as is known
	}
	gauge(f.serving, yes[s.serving])
	gauge(f.quorum, yes[time.Since(s.quorum) < replicaSilence])
	gauge(f.leads, yes[s.leader == n.name])
	gauge(f.entries, float64(max(s.known, applied)))
	gauge(f.applied, float64(applied))
	gauge(f.lag, float64(max(s.known, applied)-applied))
	behind := uint64(0)
	if s.leader == n.name {
		behind = slowest(s.members)
	}
	gauge(f.behind, float64(behind))
	gauge(f.members, float64(following))
}

// slowest is what the one lacks most of the replicas that follow.
func slowest(members []Member) (lag uint64) {
	for _, m := range members {
		if m.Silent < replicaSilence {
			lag = max(lag, m.Lag)
		}
	}
	return lag
}
