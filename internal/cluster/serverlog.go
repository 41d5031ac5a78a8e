package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// reportEvery is at how many failed attempts to reach another node one is
// logged. They come every second.
const reportEvery = 600

// serverLog has the NATS server log to slog. It implements [server.Logger].
type serverLog struct {
	log      *slog.Logger
	fatal    chan<- error
	refusals *refusals
	storage  *storage
}

// Noticef is for what servers say of their start and end, pages of it.
func (l *serverLog) Noticef(format string, v ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, v...))
	}
}

// Warnf is for what may pass.
func (l *serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	level := slog.LevelWarn
	for _, usual := range []string{
		"Waiting for routing", "contact with a meta leader", "Metalayer blocking snapshot", "RAFT", "NO quorum", // at each start, end and election
		"Stream state outdated", "Stream state too short", "Recovering stream state from index errored", // after a kill: it is read from its files
		"solicited routes will not be verified", // which are, by tls.Config.VerifyConnection
	} {
		if strings.Contains(text, usual) {
			level = slog.LevelDebug
		}
	}
	if cause, ok := writeError(text); ok {
		level = slog.LevelDebug // the node logs it
		l.storage.report(cause, true)
	}
	l.log.Log(context.Background(), level, text)
}

// Errorf is for what goes wrong. That another node is not there is no error of
// this one's.
func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	level := slog.LevelError
	if addr, what, ok := refusal(text); ok {
		level = slog.LevelDebug
		l.refusals.note(what+" ("+addr+")", time.Now())
		if l.refusals.first(addr+" "+what, time.Now()) {
			report := slog.LevelWarn
			if what == sameName {
				report = slog.LevelError // events may be lost
			}
			l.log.Log(context.Background(), report, what, "addr", addr)
		}
	}
	if cause, ok := writeError(text); ok {
		level = slog.LevelDebug // the node logs it
		l.storage.report(cause, true)
	}
	for _, known := range []string{"failed to store a msg", "will be DISABLED"} {
		if strings.Contains(text, known) { // which follows from it
			level = slog.LevelDebug
		}
	}
	for _, others := range []string{"connect to route", " - rid:"} {
		if strings.Contains(text, others) {
			level = min(level, slog.LevelInfo)
		}
	}
	l.log.Log(context.Background(), level, text)
}

// Fatalf is for what the server can't go on after.
func (l *serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Errorf("the NATS server: "+format, v...):
	default:
	}
}

// Debugf is never called: it is not turned on.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef is never called: it is not turned on.
func (l *serverLog) Tracef(string, ...any) {}
