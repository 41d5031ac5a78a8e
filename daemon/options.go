package daemon

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Options configures a daemon on behalf of the program that runs it. All fields are
// optional.
type Options struct {
	// Logger receives log messages for the operator. If nil, nothing is logged.
	Logger *slog.Logger

	// Version is the daemon's version, as reported to clients.
	Version string

	// Demo serves a demo page at / on the SSE listener and publishes events for
	// it.
	Demo bool

	// TuneMemory makes the daemon run the garbage collector less often while many
	// clients connect, and return memory to the system afterwards. Set it only in a
	// process that runs nothing else.
	TuneMemory bool

	// LogLevel, if not nil, is set to the value of log.level. Logger should use it as
	// its level.
	LogLevel *slog.LevelVar

	// LostLines returns how many lines of the log have been lost so far. If nil, none
	// are lost.
	LostLines func() int64

	// Reload delivers new settings while the daemon runs; see [Reload]. The daemon
	// receives them one at a time until it shuts down.
	Reload <-chan Reload

	// Registry receives the daemon's metrics. The REST listener serves all metrics of
	// the registry at /metrics. If nil, the daemon creates a registry.
	Registry *prometheus.Registry

	// Tracer records spans of control calls. If nil, no spans are recorded. The caller
	// must shut it down.
	Tracer trace.TracerProvider

	// Inherited holds the sockets that were passed to the process when it started.
	Inherited Inherited

	// Ready is called once all listeners accept connections. If it returns an
	// error, the daemon shuts down and Run returns that error.
	Ready func(Addresses) error

	// Settled is called once, after Ready. Its argument reports whether the daemon is
	// serving. In a cluster, Settled is called when the daemon has caught up. If the
	// daemon hasn't caught up after half a minute, Settled is called anyway, because
	// the first node of a cluster waits for the others. Settled isn't called if the
	// daemon shuts down first.
	Settled func(serving bool)

	// Ending is called when the daemon starts to shut down, regardless of the cause.
	Ending func()
}

// Reload holds settings that have been read again while the daemon is running.
//
// The daemon applies all settings that don't need a restart. The others keep their
// values, and a single warning lists them. If any setting is invalid, nothing changes
// and an error is logged.
type Reload struct {
	// Config holds the new settings.
	Config Config

	// Err is the error from reading the settings, if they couldn't be read.
	Err error

	// Reread makes the daemon reread key sets and the files that settings name, even if
	// the settings themselves haven't changed.
	Reread bool
}
