package main

import (
	"io"
	"log/slog"

	"github.com/peald/peald/daemon"
)

// newLogger logs to w as cfg, which is valid, says; what level is, is the
// daemon's to change.
func newLogger(w io.Writer, cfg daemon.Log, level *slog.LevelVar) *slog.Logger {
	level.Set(cfg.Threshold())
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
