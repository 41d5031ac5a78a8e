package daemon

//go:generate go test -run ^TestMetricsAreDocumented$ . -update

import "github.com/prometheus/client_golang/prometheus"

// collector collects the daemon's metrics. It reads the state of the parts whenever
// metrics are scraped.
type collector struct {
	sources sources
	metrics []metric
}

func newCollector(from sources) *collector {
	return &collector{sources: from, metrics: ownMetrics()}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	now := c.sources.read()
	for _, m := range c.metrics {
		m.collect(now, ch)
	}
}
