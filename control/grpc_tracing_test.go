package control_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/testbed"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent  = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// startTraced is like start, and also returns the exporter of the spans.
func startTraced(t *testing.T, cfg control.Config, b control.Broker) (*plane, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	cfg.Tracer = provider
	return start(t, cfg, b, fakeMinter{}), spans
}

// ownAttributes returns the attributes of a span that peald defines.
func ownAttributes(span tracetest.SpanStub) map[string]string {
	found := map[string]string{}
	for _, a := range span.Attributes {
		if strings.HasPrefix(string(a.Key), "peald.") {
			found[string(a.Key)] = a.Value.String()
		}
	}
	return found
}

func TestSpanAttributes(t *testing.T) {
	const secretUser, secretTopic, secretData = "secret-user", "secret-topic", "secret-data"
	b := startBroker(t)
	stream(t, b, secretUser)
	p, spans := startTraced(t, control.Config{Tokens: []control.Token{{Name: "shop", Token: "token-of-the-shop"}}}, b)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer token-of-the-shop", "traceparent", parent)

	for name, c := range map[string]struct {
		call func() error
		span string
		want map[string]string
	}{
		"to a user": {
			func() error {
				return errOf(p.SendToUser(ctx, &pealv1.SendToUserRequest{UserId: secretUser, Data: secretData}))
			},
			"SendToUser", map[string]string{"peald.transport": "grpc", "peald.caller": "shop", "peald.audience": "user", "peald.recipients": "1"},
		},
		"to a topic": {
			func() error {
				return errOf(p.Publish(ctx, &pealv1.PublishRequest{Topic: secretTopic, Data: secretData}))
			},
			"Publish", map[string]string{"peald.transport": "grpc", "peald.caller": "shop", "peald.audience": "topic", "peald.recipients": "0"},
		},
		"over REST": {
			func() error {
				p.do(t, "POST", "/v1/broadcast", `{"data":"`+secretData+`"}`, "Authorization", "Bearer token-of-the-shop", "Traceparent", parent)
				return nil
			},
			"Broadcast", map[string]string{"peald.transport": "rest", "peald.caller": "shop", "peald.audience": "everyone", "peald.recipients": "1"},
		},
		"in a stream": {
			func() error {
				return calls()["PublishStream"].attempt(ctx, p)
			},
			"PublishStream", map[string]string{"peald.transport": "grpc", "peald.caller": "shop", "peald.messages": "1", "peald.reason": "CANCELLED"},
		},
		"rejected": {
			func() error {
				if _, err := p.Broadcast(ctx, &pealv1.BroadcastRequest{Data: secretData, Event: "peald." + secretData}); err == nil {
					t.Error("the call was not rejected")
				}

				return nil
			},
			"Broadcast", map[string]string{"peald.transport": "grpc", "peald.caller": "shop", "peald.audience": "everyone", "peald.reason": "INVALID_FIELD"},
		},
		"unauthenticated": {
			func() error {
				p.do(t, "POST", "/v1/tokens", `{"userId":"`+secretUser+`"}`, "Traceparent", parent)
				return nil
			},
			"CreateToken", map[string]string{"peald.transport": "rest", "peald.reason": "CONTROL_TOKEN_MISSING"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			spans.Reset()
			if err := c.call(); err != nil {
				t.Fatal(err)
			}

			// A span ends shortly after the caller has received the reply.
			eventually(t, func() bool { return len(spans.GetSpans()) > 0 })
			found := spans.GetSpans()
			if len(found) != 1 || found[0].Name != "peal.v1.ControlService/"+c.span {
				t.Fatalf("spans %+v, want one of %s", found, c.span)
			}

			if got := found[0].SpanContext.TraceID().String(); got != traceID || !found[0].Parent.IsRemote() {
				t.Errorf("trace %s, want the caller's", got)
			}

			got := ownAttributes(found[0])
			if got["peald.recipients"] != "" && got["peald.event_id"] == "" {
				t.Error("the attribute peald.event_id is missing")
			}

			delete(got, "peald.event_id")
			if !maps.Equal(got, c.want) {
				t.Errorf("attributes %v, want %v", got, c.want)
			}

			var all bytes.Buffer
			slog.New(slog.NewJSONHandler(&all, nil)).Info("", "span", found[0])
			for _, secret := range []string{secretUser, secretTopic, secretData, "token-of-the-shop"} {
				if strings.Contains(all.String(), secret) || hasValue(found[0].Attributes, secret) {
					t.Errorf("the span contains %q", secret)
				}
			}
		})
	}
}

func hasValue(attributes []attribute.KeyValue, text string) bool {
	for _, a := range attributes {
		if strings.Contains(a.Value.String(), text) {
			return true
		}
	}
	return false
}

func TestHealthHasNoSpans(t *testing.T) {
	p, spans := startTraced(t, control.Config{}, startBroker(t))
	if got := p.do(t, "GET", "/readyz", ""); got.StatusCode != 200 {
		t.Error(got.Status)
	}
	if _, err := services(t.Context(), p); err != nil {
		t.Error(err)
	}
	p.service.Close()
	if found := spans.GetSpans(); len(found) > 0 {
		t.Errorf("%d spans", len(found))
	}
}

// The log contains the caller's trace id, with and without tracing.
func TestLogContainsTheTraceID(t *testing.T) {
	for name, traced := range map[string]bool{"traced": true, "not traced": false} {
		t.Run(name, func(t *testing.T) {
			log := &testbed.Log{}
			cfg := control.Config{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
			broken := &fakeBroker{publish: func(broker.Message) (broker.Receipt, error) { return broker.Receipt{}, errors.New("broken") }}
			var p *plane
			if traced {
				p, _ = startTraced(t, cfg, broken)
			} else {
				p = start(t, cfg, broken, fakeMinter{})
			}

			p.do(t, "POST", "/v1/tokens", `{"userId":"alice"}`, "Traceparent", parent)
			p.do(t, "POST", "/v1/broadcast", `{"data":"x"}`, "Traceparent", parent)
			for _, what := range []string{"msg=audit", `msg="control call failed"`} {
				if got := log.With(what); len(got) != 1 || !strings.Contains(got[0], "trace_id="+traceID) {
					t.Errorf("lines with %s: %q", what, got)
				}
			}

			// An invalid trace is ignored.
			p.do(t, "POST", "/v1/tokens", `{"userId":"bob"}`, "Traceparent", "00-evil\t-x-01")
			if got := log.With("user=bob"); len(got) != 1 || !traced && strings.Contains(got[0], "trace_id") || strings.Contains(got[0], "evil") {
				t.Errorf("lines %q", got)
			}
		})
	}
}

// BenchmarkTracedBroadcast makes sequential calls over one connection: without
// tracing, with an exporter that drops spans, and with a sampler that samples
// none.
func BenchmarkTracedBroadcast(b *testing.B) {
	for name, sampler := range map[string]sdktrace.Sampler{"off": nil, "sampled": sdktrace.AlwaysSample(), "not sampled": sdktrace.NeverSample()} {
		b.Run(name, func(b *testing.B) {
			cfg := control.Config{Logger: slog.New(slog.DiscardHandler)}
			if sampler != nil {
				provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewNoopExporter()), sdktrace.WithSampler(sampler))
				defer func() { _ = provider.Shutdown(context.Background()) }()
				cfg.Tracer = provider
			}
			p := start(b, cfg, &fakeBroker{}, nil)
			req := &pealv1.BroadcastRequest{Data: strings.Repeat("x", 100)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Broadcast(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
