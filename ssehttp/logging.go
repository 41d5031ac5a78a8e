package ssehttp

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/peald/peald/internal/broker"
)

const (
	// maxLogged bounds in bytes what a log line takes from a request.
	maxLogged = 256

	// failuresEvery is the shortest time between two warnings of streams that
	// could not be opened, which come in crowds.
	failuresEvery = 10 * time.Second
)

// logRejection logs a rejected request at debug. Of the request the line has
// the client's address and the origin only, and a status only where the
// rejection is permanent. The user is empty where it isn't known.
func (h *Handler) logRejection(r *http.Request, rules *rules, user string, why *refusal) {
	ctx := r.Context()
	if !h.log.Enabled(ctx, slog.LevelDebug) {
		return
	}

	attrs := make([]slog.Attr, 0, 6)
	attrs = append(attrs, slog.String("cause", why.cause.String()))
	if why.status != 0 {
		attrs = append(attrs, slog.Int("status", why.status))
	}
	attrs = append(attrs, requestAttrs(r, rules.clients.addr(r))...)
	if user != "" {
		attrs = append(attrs, slog.String("user", user))
	}
	if why.reason != "" && !why.quotes {
		attrs = append(attrs, slog.String("reason", shortened(why.reason)))
	}
	h.log.LogAttrs(ctx, slog.LevelDebug, "stream rejected", attrs...)
}

// requestAttrs returns the address of a request's client, and the origin of the
// page that it is from, if any.
func requestAttrs(r *http.Request, client netip.Addr) []slog.Attr {
	attrs := []slog.Attr{slog.String("address", addressText(client))}
	if origin := r.Header.Get("Origin"); origin != "" {
		attrs = append(attrs, slog.String("origin", strings.Clone(shortened(origin))))
	}
	return attrs
}

func addressText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

func shortened(text string) string { return text[:min(len(text), maxLogged)] }

// streamLog is a sink that logs at debug when its stream is opened and closed.
// The stream's shard writes both lines, so that they are in order. It holds
// nothing of the request.
type streamLog struct {
	broker.Sink

	log    *slog.Logger
	stream *broker.Stream
	attrs  []slog.Attr // of both lines
	topics int
	lastID string    // empty where it can't be one of peald's
	began  time.Time // when the request was admitted

	// What follows belongs to the shard's goroutine.

	opened bool
	bytes  int64
}

// logStream returns a log of a stream that is about to be opened, or nil where
// debug is off.
func (h *Handler) logStream(r *http.Request, rules *rules, sub *broker.Subscription, st *broker.Stream) *streamLog {
	if !h.log.Enabled(r.Context(), slog.LevelDebug) {
		return nil
	}

	lines := &streamLog{
		log:    h.log,
		stream: st,
		attrs:  append(requestAttrs(r, rules.clients.addr(r)), slog.String("user", sub.User)),
		topics: len(sub.Topics),
		began:  time.Now(),
	}
	if broker.ValidEventID(sub.LastEventID) == nil {
		lines.lastID = strings.Clone(sub.LastEventID)
	}

	return lines
}

// around returns sink with the log around it, or sink itself where l is nil.
func (l *streamLog) around(sink broker.Sink, by transport) broker.Sink {
	if l == nil {
		return sink
	}

	l.Sink = sink
	l.attrs = append(l.attrs, slog.String("transport", by.String()))

	return l
}

// Write implements [broker.Sink]. A sink that is used is that of a stream which
// has joined.
func (l *streamLog) Write(pieces [][]byte) (int, error) {
	l.logOpening()
	n, err := l.Sink.Write(pieces)
	l.bytes += int64(n)

	return n, err
}

// Close implements [broker.Sink].
func (l *streamLog) Close(why broker.Reason) {
	l.logOpening()
	l.logLine("stream closed",
		slog.String("reason", l.stream.CloseReason(why).String()),
		slog.Duration("duration", time.Since(l.began).Round(time.Millisecond)),
		slog.Int64("bytes", l.bytes),
	)
	l.Sink.Close(why)
}

func (l *streamLog) logOpening() {
	if l.opened {
		return
	}

	l.opened = true
	attrs := []slog.Attr{slog.Int("topics", l.topics)}
	if l.lastID != "" {
		attrs = append(attrs, slog.String("last_event_id", l.lastID))
	}
	l.logLine("stream opened", attrs...)
}

func (l *streamLog) logLine(message string, more ...slog.Attr) {
	l.log.LogAttrs(context.Background(), slog.LevelDebug, message, append(slices.Clip(l.attrs), more...)...)
}
