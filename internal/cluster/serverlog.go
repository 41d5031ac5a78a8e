package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// reportInterval is how often the server logs a failed attempt to connect to another
// node: every reportInterval-th attempt. It retries once a second.
const reportInterval = 600

// serverLog passes the NATS server's log messages to slog. It implements
// [server.Logger].
type serverLog struct {
	log        *slog.Logger
	fatal      chan<- error
	rejections *rejections
	storage    *storage
	encrypted  bool // connections between nodes use TLS
}

// Noticef logs startup and shutdown messages at debug level, because there are many
// of them. It passes rejections on to the node.
func (l *serverLog) Noticef(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	now := time.Now()
	if addr, ok := parseClosed(text); ok && l.encrypted && l.rejections.noteClosed(now) {
		l.rejections.note(rejectedCertificate+" ("+addr+")", now)
		if l.rejections.isNew(addr+" "+rejectedCertificate, now) {
			l.log.Warn(rejectedCertificate, "addr", addr)
		}
	}
	l.log.Debug(text)
}

// Warnf logs a warning, at debug level if it is routine.
func (l *serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	level := slog.LevelWarn
	for _, usual := range []string{
		"Waiting for routing", "contact with a meta leader", "Metalayer blocking snapshot", "RAFT", "NO quorum", // on each startup, shutdown and election
		"Stream state outdated", "Stream state too short", "Recovering stream state from index errored", // after a crash: the state is recovered from other files
		"solicited routes will not be verified", // tls.Config.VerifyConnection does verify them
	} {
		if strings.Contains(text, usual) {
			level = slog.LevelDebug
		}
	}
	if cause, ok := parseWriteError(text); ok {
		level = slog.LevelDebug // the node logs it
		l.storage.report(cause, true)
	}
	l.log.Log(context.Background(), level, text)
}

// Errorf logs an error, and passes rejections and write errors on to the node. Errors
// about other nodes are logged at info level at most.
func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	level := slog.LevelError
	if addr, cause, ok := parseRejection(text); ok {
		level = slog.LevelDebug
		l.rejections.note(cause+" ("+addr+")", time.Now())
		if l.rejections.isNew(addr+" "+cause, time.Now()) {
			report := slog.LevelWarn
			if cause == sameName {
				report = slog.LevelError // events may be lost
			}
			l.log.Log(context.Background(), report, cause, "addr", addr)
		}
	}

	if cause, ok := parseWriteError(text); ok {
		level = slog.LevelDebug // the node logs it
		l.storage.report(cause, true)
	}
	for _, consequence := range []string{"failed to store a msg", "will be DISABLED"} { // consequences of a write error
		if strings.Contains(text, consequence) {
			level = slog.LevelDebug
		}
	}
	for _, remote := range []string{"connect to route", " - rid:"} {
		if strings.Contains(text, remote) {
			level = min(level, slog.LevelInfo)
		}
	}
	l.log.Log(context.Background(), level, text)
}

// Fatalf passes a fatal error on to the node. The server can't continue after one.
func (l *serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Errorf("the NATS server: "+format, v...):
	default:
	}
}

// Debugf does nothing: debug messages are turned off.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef does nothing: trace messages are turned off.
func (l *serverLog) Tracef(string, ...any) {}
