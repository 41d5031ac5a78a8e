package main

import (
	"bytes"
	"io"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"google.golang.org/grpc/grpclog"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/logqueue"
)

// logFlushTimeout bounds how long the end of the process waits for the log to take
// the last lines.
const logFlushTimeout = time.Second

// newLogger returns a logger that writes to queue as cfg, which is valid,
// says, and makes the queue report lost lines in the same format. The daemon
// changes level.
func newLogger(queue *logqueue.Queue, cfg daemon.Log, level *slog.LevelVar) *slog.Logger {
	level.Set(cfg.Threshold())

	handler := func(w io.Writer, level slog.Leveler) slog.Handler {
		options := &slog.HandlerOptions{Level: level}
		if cfg.Format == "json" {
			return slog.NewJSONHandler(w, options)
		}

		return slog.NewTextHandler(w, options)
	}

	queue.Report(func(lost int64) []byte {
		var line bytes.Buffer

		slog.New(handler(&line, nil)).Warn("log lines lost", "lost", lost)

		return line.Bytes()
	})

	return slog.New(handler(queue, level))
}

// adoptLibraryLogs makes log the destination of libraries that log by loggers
// of their own. Those write to stderr, and wait for its reader.
func adoptLibraryLogs(log *slog.Logger) {
	slog.SetDefault(log) // and with it that of package log
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, errorLines{log}))
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
}

// errorLines logs each Write as an error.
type errorLines struct{ log *slog.Logger }

// Write implements [io.Writer].
func (l errorLines) Write(line []byte) (int, error) {
	l.log.Error("grpc", "error", strings.TrimSpace(string(line)))

	return len(line), nil
}

// surviveBrokenPipes makes writes to stdout and stderr fail once nobody reads
// them. Left alone, the Go runtime ends the process, even where SIGPIPE was
// ignored when it was started.
func surviveBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }
