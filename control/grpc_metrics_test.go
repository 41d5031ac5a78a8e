package control_test

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/metadata"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// metricValues returns the values of the control plane's metrics by name and
// labels, such as peald_control_calls_total{code=OK,method=Stats}. The value of a
// histogram is its count.
func (p *plane) metricValues(t *testing.T) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(p.service.Metrics()); err != nil {
		t.Fatal(err)
	}

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}

	found := map[string]float64{}

	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, label := range m.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}

			value := m.GetCounter().GetValue()
			if family.GetType() == dto.MetricType_HISTOGRAM {
				value = float64(m.GetHistogram().GetSampleCount())
			}

			found[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}

	return found
}

func TestCallsAreCounted(t *testing.T) {
	p := start(t, control.Config{Tokens: []control.Token{
		{Name: "shop", Token: "token-of-the-shop", Scopes: []string{control.ScopePublish}},
	}}, startBroker(t), nil)
	before := p.metricValues(t)
	shop := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer token-of-the-shop")
	if _, err := p.Broadcast(shop, &pealv1.BroadcastRequest{Data: "x"}); err != nil {
		t.Fatal(err)
	}

	for _, try := range []func() error{
		func() error { return errOf(p.Broadcast(shop, &pealv1.BroadcastRequest{})) },
		func() error { return errOf(p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "x"})) },
		func() error { return errOf(p.Stats(shop, &pealv1.StatsRequest{})) },
	} {
		if try() == nil {
			t.Fatal("a call that must be rejected succeeded")
		}
	}

	stream, err := p.PublishStream(shop)
	if err != nil {
		t.Fatal(err)
	}

	for _, data := range []string{"x", "", "x"} {
		if err := stream.Send(&pealv1.PublishStreamRequest{Audience: everyone(), Data: data}); err != nil {
			t.Fatal(err)
		}
	}

	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}

	for err == nil {
		_, err = stream.Recv()
	}

	if err != io.EOF { //nolint:errorlint // gRPC returns it unwrapped.
		t.Fatal(err)
	}

	const bearer = "Bearer token-of-the-shop"
	p.do(t, "POST", "/v1/broadcast", `{"data":"x"}`, "Authorization", bearer)
	p.do(t, "POST", "/v1/broadcast", `{"data":""}`, "Authorization", bearer)
	p.do(t, "POST", "/v1/broadcast", `{"dta":"x"}`, "Authorization", bearer)
	p.do(t, "POST", "/v1/broadcast", "x", "Authorization", bearer, "Content-Type", "text/html")
	p.do(t, "POST", "/v1/broadcast", `{"data":"x"}`, "Authorization", bearer, "Sec-Fetch-Site", "cross-site")
	p.do(t, "PUT", "/v1/broadcast", `{"data":"x"}`, "Authorization", bearer)
	p.do(t, "GET", "/v1/nothing", "")
	p.do(t, "GET", "/nothing", "")

	after, want := p.metricValues(t), map[string]float64{
		"peald_control_calls_total{code=OK,method=Broadcast}":                              2,
		"peald_control_calls_total{code=INVALID_ARGUMENT,method=Broadcast}":                2,
		"peald_control_calls_total{code=UNAUTHENTICATED,method=Broadcast}":                 1,
		"peald_control_calls_total{code=PERMISSION_DENIED,method=Stats}":                   1,
		"peald_control_calls_total{code=OK,method=PublishStream}":                          1,
		"peald_control_call_seconds{method=Broadcast}":                                     5,
		"peald_control_call_seconds{method=Stats}":                                         1,
		"peald_control_refused_total{code=INVALID_ARGUMENT,reason=INVALID_FIELD}":          4,
		"peald_control_refused_total{code=INVALID_ARGUMENT,reason=UNSUPPORTED_MEDIA_TYPE}": 1,
		"peald_control_refused_total{code=UNAUTHENTICATED,reason=CONTROL_TOKEN_MISSING}":   1,
		"peald_control_refused_total{code=PERMISSION_DENIED,reason=CONTROL_SCOPE_MISSING}": 1,
		"peald_control_refused_total{code=PERMISSION_DENIED,reason=FOREIGN_ORIGIN}":        1,
		"peald_control_refused_total{code=UNIMPLEMENTED,reason=METHOD_NOT_ALLOWED}":        1,
		"peald_control_refused_total{code=NOT_FOUND,reason=UNKNOWN_PATH}":                  2,
	}

	for series, value := range after {
		if got := value - before[series]; got != want[series] {
			t.Errorf("%s grew by %v, want %v", series, got, want[series])
		}

		delete(want, series)
		if _, ok := before[series]; !ok && strings.HasPrefix(series, "peald_control_refused") {
			t.Errorf("%s has no initial value", series)
		}
	}

	if len(want) > 0 {
		t.Errorf("missing series: %v", want)
	}
}

// A call that its caller cancels isn't counted as rejected.
func TestCanceledCallsAreNotRejected(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	if err := calls()["WatchConnections"].attempt(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	const left = "peald_control_calls_total{code=CANCELLED,method=WatchConnections}"
	eventually(t, func() bool { return p.metricValues(t)[left] == 1 })
	for series, value := range p.metricValues(t) {
		if strings.HasPrefix(series, "peald_control_refused") && value != 0 {
			t.Errorf("%s is %v, want 0", series, value)
		}
	}
}

// The documentation lists exactly the reasons that are counted.
func TestReasonsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/control.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, counted []string
	row := regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| [^|]*\\| ([^|]*) \\|")
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		if match[1] == "CANCELLED" {
			continue // a canceled call isn't rejected
		}
		for reason := range strings.SplitSeq(match[2], ", ") {
			documented = append(documented, "{code="+match[1]+",reason="+strings.Trim(reason, "`")+"}")
		}
	}
	p := start(t, control.Config{}, &fakeBroker{}, nil)
	for series := range p.metricValues(t) {
		if labels, ok := strings.CutPrefix(series, "peald_control_refused_total"); ok {
			counted = append(counted, labels)
		}
	}
	slices.Sort(documented)
	slices.Sort(counted)
	if !slices.Equal(documented, counted) {
		t.Errorf("documented reasons\n%q, counted\n%q", documented, counted)
	}
}

// eventually waits until condition returns true.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatal("the condition didn't become true within a minute")
		}
	}
}
