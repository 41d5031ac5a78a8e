package presence

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// figures are what a directory counts.
type figures struct {
	told, heard, toldBytes, heardBytes, pulls, unanswered prometheus.Counter

	nodes, silence, streams, users *prometheus.Desc
}

func newFigures() figures {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "peald_cluster_" + name, Help: help})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("peald_cluster_"+name, help, labels, nil)
	}
	return figures{
		told:       counter("announcements_sent_total", "Announcements of this node to others."),
		heard:      counter("announcements_received_total", "Announcements of other nodes."),
		toldBytes:  counter("presence_sent_bytes_total", "Bytes of what this node told others of its streams."),
		heardBytes: counter("presence_received_bytes_total", "Bytes of what other nodes announced."),
		pulls:      counter("state_requests_total", "Times that another node was asked for all that it holds, since it was new or an announcement was missed."),
		unanswered: counter("unanswered_total", "Questions that another node has not answered in time."),
		nodes:      desc("nodes", "Nodes of the cluster, this one among them, by how they are.", "state"),
		silence:    desc("silence_seconds", "How long the node that has been silent longest has not been heard of, lost ones left out."),
		streams:    desc("streams_elsewhere", "Streams that other nodes hold, as they announced."),
		users:      desc("users_elsewhere", "Users whose streams other nodes announced, once for each node."),
	}
}

// stateNames are those of the states of nodes in figures.
func stateNames() map[pealv1.NodeState]string {
	return map[pealv1.NodeState]string{
		pealv1.NodeState_NODE_STATE_SERVING:     "serving",
		pealv1.NodeState_NODE_STATE_NOT_SERVING: "not_serving",
		pealv1.NodeState_NODE_STATE_DRAINING:    "draining",
		pealv1.NodeState_NODE_STATE_LOST:        "lost",
		pealv1.NodeState_NODE_STATE_ABSENT:      "absent",
	}
}

// Describe implements [prometheus.Collector].
func (d *Directory) Describe(ch chan<- *prometheus.Desc) {
	f := &d.figures
	for _, c := range []prometheus.Collector{f.told, f.heard, f.toldBytes, f.heardBytes, f.pulls, f.unanswered} {
		c.Describe(ch)
	}
	for _, desc := range []*prometheus.Desc{f.nodes, f.silence, f.streams, f.users} {
		ch <- desc
	}
}

// Collect implements [prometheus.Collector].
func (d *Directory) Collect(ch chan<- prometheus.Metric) {
	f := &d.figures
	for _, c := range []prometheus.Collector{f.told, f.heard, f.toldBytes, f.heardBytes, f.pulls, f.unanswered} {
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
		gauge(f.nodes, float64(byState[state]), name)
	}
	var (
		silence        time.Duration
		streams, users int
	)
	now := time.Now()
	d.mu.RLock()
	for _, n := range d.nodes {
		if !n.lost {
			silence = max(silence, now.Sub(n.heard))
		}
		if n.counts != nil {
			streams, users = streams+n.counts.streams, users+len(n.counts.users)
		}
	}
	d.mu.RUnlock()
	gauge(f.silence, silence.Seconds())
	gauge(f.streams, float64(streams))
	gauge(f.users, float64(users))
}
