package control

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// metrics count calls of the ControlService, by gRPC and by REST alike. Health
// and reflection are left out: they are asked by machines, and at any time.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	refused *prometheus.CounterVec

	methods map[string]methodMetrics // by full name; never changed
}

// methodMetrics are one method's, looked up beforehand: to find them by their
// labels costs more than to count.
type methodMetrics struct {
	name    string
	done    prometheus.Counter  // calls that were answered with OK
	seconds prometheus.Observer // nil for one that lasts as long as its caller wants
}

func newMetrics() *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peald_control_calls_total",
			Help: "Calls of the control plane that have ended, by gRPC and REST.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "peald_control_call_seconds",
			Help: "How long calls of the control plane took, but for PublishStream, WatchConnections and Tail.",
			// Most take some ten microseconds; one that waits for shards can
			// take its caller's deadline.
			Buckets: []float64{1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 1e-2, 2.5e-2, 0.1, 0.25, 1, 5},
		}, []string{"method"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peald_control_refused_total",
			Help: "Calls of the control plane, and messages of a PublishStream, that were not carried out.",
		}, []string{"code", "reason"}),
		methods: make(map[string]methodMetrics),
	}
	service := pealv1.ControlService_ServiceDesc
	add := func(name string) methodMetrics {
		return methodMetrics{name: name, done: m.calls.WithLabelValues(name, codeName(codes.OK))}
	}
	for _, method := range service.Methods {
		of := add(method.MethodName)
		of.seconds = m.seconds.WithLabelValues(method.MethodName)
		m.methods["/"+service.ServiceName+"/"+method.MethodName] = of
	}
	for _, method := range service.Streams {
		m.methods["/"+service.ServiceName+"/"+method.StreamName] = add(method.StreamName)
	}
	// A counter that is not there before its first refusal shows no increase.
	for reason, code := range codesOfReasons() {
		m.refused.WithLabelValues(codeName(code), reason)
	}
	return m
}

// Metrics returns what the Service counts, to be registered once.
func (s *Service) Metrics() prometheus.Collector { return s.metrics }

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.calls.Describe(ch)
	m.seconds.Describe(ch)
	m.refused.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.calls.Collect(ch)
	m.seconds.Collect(ch)
	m.refused.Collect(ch)
}

// ended counts a call that began at the given time and was answered with err,
// which is what the caller got.
func (m *metrics) ended(method string, began time.Time, err error) {
	of, ok := m.methods[method]
	if !ok {
		return
	}
	if of.seconds != nil {
		of.seconds.Observe(time.Since(began).Seconds())
	}
	if err == nil {
		of.done.Inc()
		return
	}
	m.calls.WithLabelValues(of.name, codeName(status.Code(err))).Inc()
}

// refuse counts what was not carried out for err, unless it was the caller who
// gave up. What gRPC itself finds has no reason.
func (m *metrics) refuse(err error) {
	refused := refusalOf(err)
	if refused == nil {
		refused = internalError()
		if st, ok := status.FromError(err); ok {
			refused = refuse(st.Code(), "", "")
		}
	}
	if refused.code != codes.Canceled {
		m.refused.WithLabelValues(codeName(refused.code), refused.reason).Inc()
	}
}

// codeName is a code as the contract writes it: INVALID_ARGUMENT.
func codeName(c codes.Code) string { return code.Code(c).String() }
