package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// Unexpected errors are logged once and hidden from the caller. Neither the log
// nor the response contains the request.
func TestUnexpectedErrors(t *testing.T) {
	const payload = "payload-7f3a"

	for name, publish := range map[string]func(broker.Message) (broker.Receipt, error){
		"an error": func(broker.Message) (broker.Receipt, error) {
			return broker.Receipt{}, errors.New("inside-91c2 broke")
		},
		"a panic": func(broker.Message) (broker.Receipt, error) { panic("inside-91c2 broke") },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			p := start(t, control.Config{
				Tokens: []control.Token{{Name: "shop", Token: "token-" + payload}},
				Logger: slog.New(slog.NewJSONHandler(&log, nil)),
			}, &fakeBroker{publish: publish}, nil)

			got := p.do(t, "POST", "/v1/users/alice-"+payload+"/messages", `{"data":"`+payload+`","event":"e-`+payload+`"}`,
				"Authorization", "Bearer token-"+payload)
			f := got.failure(t)
			if got.StatusCode != http.StatusInternalServerError || f.code != codes.Internal || f.reason != "INTERNAL" || strings.Contains(got.body, "91c2") {
				t.Errorf("%s %s", got.Status, got.body)
			}

			if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "inside-91c2 broke") ||
				!strings.Contains(log.String(), "SendToUser") {
				t.Errorf("%d log lines, want 1: %s", lines, &log)
			}

			if strings.Contains(log.String(), payload) {
				t.Errorf("the log contains the request: %s", &log)
			}
		})
	}
}

// Invalid requests aren't logged, because they could fill the log.
func TestInvalidRequestsAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	p := start(t, control.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, startBroker(t), nil)
	_ = p.do(t, "POST", "/v1/broadcast", `{"data":""}`)
	_ = p.do(t, "POST", "/v1/broadcast", `{`)
	_ = p.do(t, "POST", "/nothing", ``)
	if log.Len() > 0 {
		t.Error(log.String())
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	for want, err := range map[codes.Code]error{
		codes.Canceled:         fmt.Errorf("waiting: %w", context.Canceled),
		codes.DeadlineExceeded: fmt.Errorf("waiting: %w", context.DeadlineExceeded),
		codes.Unavailable:      fmt.Errorf("publishing: %w", broker.ErrClosed),
		codes.InvalidArgument:  fmt.Errorf("publishing: %w", &broker.InvalidError{Field: "data", Reason: "is invalid"}),
	} {
		p := start(t, control.Config{}, &fakeBroker{publish: func(broker.Message) (broker.Receipt, error) { return broker.Receipt{}, err }}, nil)
		_, got := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "hi"})
		if f := failureOf(t, got); f.code != want || f.reason == "" {
			t.Errorf("%v: %+v", err, f)
		}
	}
}

func TestServing(t *testing.T) {
	p := start(t, control.Config{Unready: func() string { return "catching up" }}, &fakeBroker{}, nil)
	health := healthv1.NewHealthClient(p.conn)
	check := func(when string, want healthv1.HealthCheckResponse_ServingStatus, ready int) {
		t.Helper()
		for _, service := range []string{"", "peal.v1.ControlService"} {
			reply, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
			if err != nil || reply.GetStatus() != want {
				t.Errorf("%s: health check for %q: %v, %v", when, service, reply, err)
			}
		}

		body := map[int]string{200: "ok", 503: "catching up"}[ready]
		if got := p.do(t, "GET", "/readyz", ""); got.StatusCode != ready || got.body != body {
			t.Errorf("%s: /readyz: %s %q", when, got.Status, got.body)
		}

		if got := p.do(t, "GET", "/healthz", ""); got.StatusCode != http.StatusOK || got.body != "ok" {
			t.Errorf("%s: /healthz: %s %q", when, got.Status, got.body)
		}
	}

	check("serving", healthv1.HealthCheckResponse_SERVING, 200)
	p.service.SetServing(false)
	check("draining", healthv1.HealthCheckResponse_NOT_SERVING, 503)
	p.service.SetServing(true)
	check("serving again", healthv1.HealthCheckResponse_SERVING, 200)
	p.service.Close()
	check("closed", healthv1.HealthCheckResponse_NOT_SERVING, 503)
	p.service.SetServing(true)
	check("closed for good", healthv1.HealthCheckResponse_NOT_SERVING, 503)
}

func TestClose(t *testing.T) {
	p := start(t, control.Config{}, &fakeBroker{}, nil)
	if got := p.do(t, "GET", "/v1/stats", ""); got.StatusCode != http.StatusOK {
		t.Fatalf("%s", got.Status)
	}
	p.service.Close()
	p.service.Close()
	if _, err := p.service.RESTHandler(); err == nil {
		t.Error("RESTHandler succeeded after Close")
	}
	if got := p.do(t, "GET", "/v1/stats", ""); got.StatusCode != http.StatusServiceUnavailable || got.failure(t).reason != "STOPPING" {
		t.Errorf("call after Close: %s %s", got.Status, got.body)
	}
}

func TestNewIsNotServing(t *testing.T) {
	service := control.New(control.Config{}, &fakeBroker{}, nil)
	defer service.Close()
	rest, err := service.RESTHandler()
	if err != nil {
		t.Fatal(err)
	}
	w := &recorder{header: http.Header{}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	rest.ServeHTTP(w, r)
	if w.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz before the daemon is serving: %d", w.status)
	}
}

type recorder struct {
	bytes.Buffer

	header http.Header
	status int
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(n int)   { r.status = n }

func TestClosedBroker(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	b.Close()
	_, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "hi"})
	rest := p.do(t, "POST", "/v1/broadcast", `{"data":"hi"}`)
	if rest.StatusCode != http.StatusServiceUnavailable || rest.Header.Get("Retry-After") == "" {
		t.Errorf("REST: %s, Retry-After %q", rest.Status, rest.Header.Get("Retry-After"))
	}
	for _, f := range []failure{failureOf(t, err), rest.failure(t)} {
		if f.code != codes.Unavailable || f.reason != "STOPPING" {
			t.Errorf("%+v", f)
		}
	}
}
