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

// logFlushTimeout limits how long the process waits at exit to write the last log
// lines.
const logFlushTimeout = time.Second

// newLogger returns a logger that writes to queue in the format that cfg selects.
// cfg must be valid. The queue reports lost lines in the same format. newLogger
// sets level, which the daemon changes later.
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

// adoptLibraryLogs redirects the loggers of libraries to log. They would otherwise
// write to stderr directly, and block while nobody reads it.
func adoptLibraryLogs(log *slog.Logger) {
	slog.SetDefault(log) // also redirects package log
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

// surviveBrokenPipes makes writes to stdout and stderr fail after the reader has
// closed the pipe. By default the Go runtime kills the process instead, even if it
// was started with SIGPIPE ignored.
func surviveBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }
