package daemon

import "github.com/prometheus/client_golang/prometheus"

// reloads counts how often the configuration was reloaded.
type reloads struct {
	outcomes *prometheus.CounterVec
	good     prometheus.Gauge
	at       prometheus.Gauge
}

// newReloads counts from the start on, which is no reload, though the
// configuration that it read was a good one.
func newReloads() *reloads {
	r := &reloads{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peald_config_reloads_total",
			Help: "Times that the configuration was read while the daemon runs, by whether it could be used.",
		}, []string{"outcome"}),
		good: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "peald_config_last_reload_successful",
			Help: "Whether the configuration could be used when it was last read.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "peald_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration that the daemon runs on was read.",
		}),
	}
	for _, outcome := range []string{"success", "failure"} {
		r.outcomes.WithLabelValues(outcome)
	}
	r.good.Set(1)
	r.at.SetToCurrentTime()
	return r
}

// Describe implements [prometheus.Collector].
func (r *reloads) Describe(ch chan<- *prometheus.Desc) {
	r.outcomes.Describe(ch)
	r.good.Describe(ch)
	r.at.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (r *reloads) Collect(ch chan<- prometheus.Metric) {
	r.outcomes.Collect(ch)
	r.good.Collect(ch)
	r.at.Collect(ch)
}

func (r *reloads) succeeded() {
	r.outcomes.WithLabelValues("success").Inc()
	r.good.Set(1)
	r.at.SetToCurrentTime()
}

func (r *reloads) failed() {
	r.outcomes.WithLabelValues("failure").Inc()
	r.good.Set(0)
}
