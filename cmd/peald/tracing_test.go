//go:build unix

package main

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// collectorServer is an OpenTelemetry collector that receives OTLP over gRPC and
// HTTP.
type collectorServer struct {
	collectorv1.UnimplementedTraceServiceServer

	mu    sync.Mutex
	spans []span
}

// span holds the parts of a span that the tests check.
type span struct {
	service, name, trace, parent string
	attributes                   map[string]string
}

// Export implements the receiving side of OTLP.
func (c *collectorServer) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for _, resource := range req.GetResourceSpans() {
		var service string
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}

		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				attributes := map[string]string{}
				for _, a := range s.GetAttributes() {
					attributes[a.GetKey()] = a.GetValue().GetStringValue()
				}
				c.spans = append(c.spans, span{service, s.GetName(), hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetParentSpanId()), attributes})
			}
		}
	}

	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func (c *collectorServer) received() []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

// ServeHTTP implements the receiving side of OTLP over HTTP.
func (c *collectorServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collectorv1.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
		http.Error(w, "no spans", http.StatusBadRequest)
		return
	}
	resp, _ := c.Export(r.Context(), &req)
	reply, _ := proto.Marshal(resp)
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(reply)
}

// overGRPC serves c over gRPC until the test ends, and returns its URL.
func (c *collectorServer) overGRPC(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return "http://" + listener.Addr().String()
}

func (c *collectorServer) overHTTP(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return server.URL
}

func TestTracing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		to    func(*collectorServer, *testing.T) string
		setup string
		want  string // service name; empty if no spans are expected
	}{
		"over gRPC":      {(*collectorServer).overGRPC, "export OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_ENDPOINT=URL", "peald"},
		"over HTTP":      {(*collectorServer).overHTTP, "export OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=URL/v1/traces OTEL_SERVICE_NAME=push", "push"},
		"not sampled":    {(*collectorServer).overHTTP, "export OTEL_EXPORTER_OTLP_ENDPOINT=URL OTEL_TRACES_SAMPLER=always_off", ""},
		"disabled":       {(*collectorServer).overHTTP, "export OTEL_EXPORTER_OTLP_ENDPOINT=URL OTEL_TRACES_EXPORTER=none", ""},
		"not configured": {(*collectorServer).overHTTP, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := &collectorServer{}
			p := startProcess(t, strings.ReplaceAll(test.setup, "URL", test.to(receiver, t)))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.REST+"/v1/users/alice/messages", strings.NewReader(`{"data":"hello"}`))
			if err != nil {
				t.Fatal(err)
			}
			const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
			req.Header.Set("Traceparent", "00-"+trace+"-"+parent+"-01")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
			// The daemon exports the remaining spans when it shuts down.
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := p.cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			got := receiver.received()
			if test.want == "" {
				if len(got) > 0 {
					t.Errorf("received spans %+v, want none", got)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("received spans %+v, want one", got)
			}
			s := got[0]
			if s.service != test.want || s.name != "peal.v1.ControlService/SendToUser" || s.trace != trace || s.parent != parent ||
				s.attributes["peald.audience"] != "user" || s.attributes["peald.transport"] != "rest" {
				t.Errorf("received span %+v", s)
			}
		})
	}
}

// TestTracingWithoutCollector checks that calls succeed while the collector is down.
func TestTracingWithoutCollector(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	_ = listener.Close()
	p := startProcess(t, "export OTEL_EXPORTER_OTLP_TIMEOUT=100 OTEL_EXPORTER_OTLP_ENDPOINT=http://"+listener.Addr().String())

	resp, err := http.Post("http://"+p.REST+"/v1/broadcast", "", strings.NewReader(`{"data":"hello"}`))
	if err != nil {
		t.Fatal(err)
	}

	_ = resp.Body.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("call: %s, exit: %v", resp.Status, err)
	}
	if !strings.Contains(p.log.String(), "level=WARN msg=\"tracing failed\"") && !strings.Contains(p.log.String(), "spans lost") {
		t.Errorf("the log doesn't report lost spans:\n%s", p.log)
	}
}
