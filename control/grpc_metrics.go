package control

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// metrics counts calls to the ControlService over gRPC and REST. It excludes calls to
// health and reflection, which tools make on their own schedules.
type metrics struct {
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	rejected *prometheus.CounterVec

	methods map[string]methodMetrics // by full name; immutable
}

// methodMetrics holds the metrics of one method. They are looked up in advance, because
// a lookup by labels costs more than incrementing a counter.
type methodMetrics struct {
	name    string
	ok      prometheus.Counter  // calls that succeeded
	seconds prometheus.Observer // nil for streaming calls
}

func newMetrics() *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peald_control_calls_total",
			Help: "Completed calls to the control plane, over gRPC and REST.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "peald_control_call_seconds",
			Help: "Duration of unary calls to the control plane.",
			// Most calls take about ten microseconds. A call that waits for
			// shards can last until its deadline.
			Buckets: []float64{1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 1e-2, 2.5e-2, 0.1, 0.25, 1, 5},
		}, []string{"method"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peald_control_refused_total",
			Help: "Rejected calls to the control plane, and rejected messages in PublishStream and PublishBatch calls.",
		}, []string{"code", "reason"}),
		methods: make(map[string]methodMetrics),
	}

	service := pealv1.ControlService_ServiceDesc
	add := func(name string, seconds prometheus.Observer) {
		m.methods["/"+service.ServiceName+"/"+name] = methodMetrics{
			name: name, ok: m.calls.WithLabelValues(name, codeName(codes.OK)), seconds: seconds,
		}
	}

	for _, method := range service.Methods {
		add(method.MethodName, m.seconds.WithLabelValues(method.MethodName))
	}

	for _, method := range service.Streams {
		add(method.StreamName, nil)
	}

	// Without an initial value of 0, the first increment of a counter isn't visible.
	for reason, code := range apierror.CodesByReason() {
		m.rejected.WithLabelValues(codeName(code), reason)
	}

	return m
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.calls.Describe(ch)
	m.seconds.Describe(ch)
	m.rejected.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.calls.Collect(ch)
	m.seconds.Collect(ch)
	m.rejected.Collect(ch)
}

// countCall counts a completed call. err is the error that the caller received.
func (m *metrics) countCall(method string, start time.Time, err error) {
	of, ok := m.methods[method]
	if !ok {
		return
	}

	if of.seconds != nil {
		of.seconds.Observe(time.Since(start).Seconds())
	}

	if err == nil {
		of.ok.Inc()

		return
	}

	m.calls.WithLabelValues(of.name, codeName(status.Code(err))).Inc()
}

// countRejection counts a call or message that was rejected with err, unless its caller
// canceled it. Errors that gRPC itself detects are counted without a reason.
func (m *metrics) countRejection(err error) {
	rejected := apierror.From(err)
	if rejected == nil {
		rejected = apierror.Internal()
		if st, ok := status.FromError(err); ok {
			rejected = apierror.New(st.Code(), "", "")
		}
	}

	if rejected.Code != codes.Canceled {
		m.rejected.WithLabelValues(codeName(rejected.Code), rejected.Reason).Inc()
	}
}

// codeName returns the canonical name of a code, such as INVALID_ARGUMENT.
func codeName(c codes.Code) string { return code.Code(c).String() }
