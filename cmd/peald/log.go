package main

import (
	"io"
	"log/slog"

	"github.com/peald/peald/daemon"
)

// newLogger logs to w as cfg, which is valid, says.
func newLogger(w io.Writer, cfg daemon.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: map[string]slog.Level{
		"debug": slog.LevelDebug,
		"info":  slog.LevelInfo,
		"warn":  slog.LevelWarn,
		"error": slog.LevelError,
	}[cfg.Level]}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
