package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/buildinfo"
)

// flushTimeout is the time limit for exporting the last spans after the daemon has
// shut down.
const flushTimeout = 5 * time.Second

// tracing returns a tracer provider that is configured by the OTEL_ variables,
// and a function that exports the last spans. The provider is nil if the
// variables configure no exporter. The protocol is looked up in env, a copy of
// the process's environment. OpenTelemetry itself reads everything else from that
// environment.
func tracing(ctx context.Context, env []string, log *slog.Logger) (_ trace.TracerProvider, flush func(), _ error) {
	protocol, err := tracingProtocol(env)
	if err != nil || protocol == "" {
		return nil, func() {}, err
	}

	// There is no other way to learn of export errors.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing failed", "error", err) }))
	client := otlptracehttp.NewClient()

	if protocol == "grpc" {
		client = otlptracegrpc.NewClient()
	}

	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, func() {}, fmt.Errorf("tracing: %w", err)
	}

	attributes, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "peald"), attribute.String("service.version", buildinfo.Version())),
		resource.WithFromEnv(),
	)
	if err != nil {
		log.Warn("tracing failed", "error", err)
	}

	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(attributes))
	log.Info("tracing enabled", "protocol", protocol)

	return provider, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("spans lost", "error", err)
		}
	}, nil
}

// tracingProtocol returns the protocol for exporting spans, or "" if tracing is
// disabled.
func tracingProtocol(env []string) (string, error) {
	disabled, _ := strconv.ParseBool(lookup(env, "OTEL_SDK_DISABLED"))
	exporter := lookup(env, "OTEL_TRACES_EXPORTER")
	hasEndpoint := lookup(env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != ""

	switch {
	case disabled, exporter == "none", exporter == "" && !hasEndpoint:
		return "", nil
	case exporter != "" && exporter != "otlp":
		return "", &daemon.SettingError{Key: "OTEL_TRACES_EXPORTER", Given: strconv.Quote(exporter), Accepted: "otlp or none"}
	}

	const tracesProtocol, protocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
	switch given := lookup(env, tracesProtocol, protocol); given {
	case "":
		return "http/protobuf", nil
	case "grpc", "http/protobuf":
		return given, nil
	default:
		key := protocol
		if lookup(env, tracesProtocol) != "" {
			key = tracesProtocol
		}
		return "", &daemon.SettingError{Key: key, Given: strconv.Quote(given), Accepted: "grpc or http/protobuf"}
	}
}

// lookup returns the value of the first of names that is set and not empty.
func lookup(env []string, names ...string) string {
	for _, name := range names {
		for _, v := range env {
			if value, ok := strings.CutPrefix(v, name+"="); ok && value != "" {
				return value
			}
		}
	}
	return ""
}
