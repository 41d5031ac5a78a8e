package control

import (
	"context"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// What spans say beside what OpenTelemetry has names for. Data, tokens, user
// ids and topics are not among it: traces go to other machines.
const (
	attributeCaller     = attribute.Key("peald.caller")
	attributeTransport  = attribute.Key("peald.transport") // grpc or rest
	attributeAudience   = attribute.Key("peald.audience")  // everyone, user or topic
	attributeRecipients = attribute.Key("peald.recipients")
	attributeEventID    = attribute.Key("peald.event_id")
	attributeMessages   = attribute.Key("peald.messages") // of a PublishStream
	attributeReason     = attribute.Key("peald.reason")   // of a refusal
)

// The headers of W3C Trace Context, as metadata has them.
const (
	traceParent = "traceparent"
	traceState  = "tracestate"
)

// traced makes a server whose calls are spans of provider.
func traced(provider trace.TracerProvider) grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(provider),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(filters.ServiceName(pealv1.ControlService_ServiceDesc.ServiceName)),
	))
}

// describe tells the call's span, if it has one, what the call was about.
func (s *Service) describe(ctx context.Context, c caller, req, resp any) {
	if s.tracer == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	said := []attribute.KeyValue{attributeTransport.String(transportOf(ctx))}
	if c.name != "" {
		said = append(said, attributeCaller.String(c.name))
	}
	switch req.(type) {
	case *pealv1.BroadcastRequest:
		said = append(said, attributeAudience.String("everyone"))
	case *pealv1.SendToUserRequest:
		said = append(said, attributeAudience.String("user"))
	case *pealv1.PublishRequest:
		said = append(said, attributeAudience.String("topic"))
	}
	if receipt, ok := resp.(interface {
		GetId() string
		GetRecipients() int32
	}); ok {
		said = append(said, attributeEventID.String(receipt.GetId()), attributeRecipients.Int(int(receipt.GetRecipients())))
	}
	span.SetAttributes(said...)
}

// describeRefusal tells the call's span why it was refused.
func (s *Service) describeRefusal(ctx context.Context, err error) {
	if refused := refusalOf(err); s.tracer != nil && refused != nil {
		trace.SpanFromContext(ctx).SetAttributes(attributeReason.String(refused.reason))
	}
}

// withTrace adds the id of the trace that a call belongs to, if it does, to
// what is logged of it: of the call's own span, or of what the caller has said.
func withTrace(ctx context.Context, args []any) []any {
	of := trace.SpanContextFromContext(ctx)
	if parent := metadata.ValueFromIncomingContext(ctx, traceParent); !of.IsValid() && len(parent) == 1 {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceParent: parent[0]})
		of = trace.SpanContextFromContext(ctx)
	}
	if !of.HasTraceID() {
		return args
	}
	return append(args, "trace_id", of.TraceID().String())
}
