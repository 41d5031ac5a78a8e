package control

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// traceParent is the metadata key for the W3C Trace Context header.
const traceParent = "traceparent"

// withTrace adds the call's trace id to args, if the call has one. The id comes from
// the call's span or from the caller.
func withTrace(ctx context.Context, args []any) []any {
	span := trace.SpanContextFromContext(ctx)
	if parent := metadata.ValueFromIncomingContext(ctx, traceParent); !span.IsValid() && len(parent) == 1 {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceParent: parent[0]})
		span = trace.SpanContextFromContext(ctx)
	}

	if !span.HasTraceID() {
		return args
	}

	return append(args, "trace_id", span.TraceID().String())
}
