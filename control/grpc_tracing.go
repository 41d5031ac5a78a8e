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

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Span attributes in addition to those that OpenTelemetry defines. They never
// contain data, tokens, user ids or topics, because traces are sent to other
// machines.
const (
	attributeCaller     = attribute.Key("peald.caller")
	attributeTransport  = attribute.Key("peald.transport") // grpc or rest
	attributeAudience   = attribute.Key("peald.audience")  // everyone, user or topic
	attributeRecipients = attribute.Key("peald.recipients")
	attributeEventID    = attribute.Key("peald.event_id")
	attributeMessages   = attribute.Key("peald.messages") // of a PublishStream or a batch
	attributeReason     = attribute.Key("peald.reason")   // of an error
)

// traceCalls returns a server option that records each call as a span, using provider.
func traceCalls(provider trace.TracerProvider) grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(provider),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(filters.ServiceName(pealv1.ControlService_ServiceDesc.ServiceName)),
	))
}

// annotateSpan adds the transport, the caller, the audience and the receipt of a call
// to its span, if it has one.
func (s *Service) annotateSpan(ctx context.Context, c caller, req, resp any) {
	if s.tracer == nil {
		return
	}

	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}

	attributes := []attribute.KeyValue{attributeTransport.String(transportOf(ctx))}
	if c.name != "" {
		attributes = append(attributes, attributeCaller.String(c.name))
	}

	if kind := audienceKind(req); kind != "" {
		attributes = append(attributes, attributeAudience.String(kind))
	}

	if receipt, ok := resp.(interface {
		GetId() string
		GetRecipients() int32
	}); ok {
		attributes = append(attributes,
			attributeEventID.String(receipt.GetId()), attributeRecipients.Int(int(receipt.GetRecipients())))
	}

	span.SetAttributes(attributes...)
}

// audienceKind returns the kind of audience that req is for; empty if it has none.
func audienceKind(req any) string {
	switch r := req.(type) {
	case *pealv1.BroadcastRequest:
		return "everyone"
	case *pealv1.SendToUserRequest:
		return "user"
	case *pealv1.PublishRequest:
		return "topic"
	case *pealv1.PublishMessageRequest:
		switch r.GetAudience().(type) {
		case *pealv1.PublishMessageRequest_Everyone:
			return "everyone"
		case *pealv1.PublishMessageRequest_UserId:
			return "user"
		}

		return "topic"
	}

	return ""
}

// annotateSpanReason adds the reason for an error to the call's span.
func (s *Service) annotateSpanReason(ctx context.Context, err error) {
	if rejected := apierror.From(err); s.tracer != nil && rejected != nil {
		trace.SpanFromContext(ctx).SetAttributes(attributeReason.String(rejected.Reason))
	}
}
