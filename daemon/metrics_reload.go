package daemon

import "github.com/prometheus/client_golang/prometheus"

// reloads counts reloads of the configuration.
type reloads struct {
	outcomes   *prometheus.CounterVec
	successful prometheus.Gauge
	at         prometheus.Gauge
}

// newReloads returns the metrics of a daemon that has just read its
// configuration. The read at startup counts as a success, but not as a reload.
func newReloads() *reloads {
	r := &reloads{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peald_config_reloads_total",
			Help: "Reloads of the configuration, by outcome.",
		}, []string{"outcome"}),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "peald_config_last_reload_successful",
			Help: "Whether the last reload of the configuration succeeded.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "peald_config_last_reload_success_timestamp_seconds",
			Help: "Time at which the configuration in effect was read.",
		}),
	}

	for _, outcome := range []string{"success", "failure"} {
		r.outcomes.WithLabelValues(outcome)
	}
	r.successful.Set(1)
	r.at.SetToCurrentTime()

	return r
}

// Describe implements [prometheus.Collector].
func (r *reloads) Describe(ch chan<- *prometheus.Desc) {
	r.outcomes.Describe(ch)
	r.successful.Describe(ch)
	r.at.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (r *reloads) Collect(ch chan<- prometheus.Metric) {
	r.outcomes.Collect(ch)
	r.successful.Collect(ch)
	r.at.Collect(ch)
}

func (r *reloads) succeeded() {
	r.outcomes.WithLabelValues("success").Inc()
	r.successful.Set(1)
	r.at.SetToCurrentTime()
}

func (r *reloads) failed() {
	r.outcomes.WithLabelValues("failure").Inc()
	r.successful.Set(0)
}
