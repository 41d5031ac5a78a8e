package ssehttp

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peald/peald/internal/broker"
)

// failuresEvery is the minimum time between two warnings about streams that could not
// be opened. Such failures often come in bursts.
const failuresEvery = 10 * time.Second

// logRejection logs a rejection at debug level. Apart from the client's address and the
// origin, the line contains nothing from the request. It contains a status only if the
// rejection is permanent. user is empty if it is unknown.
func (h *Handler) logRejection(r *http.Request, rules *rules, user string, rej *rejection) {
	ctx := r.Context()
	if !h.log.Enabled(ctx, slog.LevelDebug) {
		return
	}

	attrs := make([]slog.Attr, 0, 6)
	attrs = append(attrs, slog.String("cause", rej.cause.String()))
	if rej.status != 0 {
		attrs = append(attrs, slog.Int("status", rej.status))
	}
	attrs = append(attrs, requestAttrs(r, rules.clients.addr(r))...)
	if user != "" {
		attrs = append(attrs, slog.String("user", user))
	}
	if rej.reason != "" && !rej.quotes {
		attrs = append(attrs, slog.String("reason", rej.reason))
	}
	h.log.LogAttrs(ctx, slog.LevelDebug, "stream rejected", attrs...)
}

// requestAttrs returns the client's address and the request's origin, if any.
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

// streamLog is a sink that logs at debug level that its stream was opened and closed.
// The stream's shard writes both lines, so they are in order. A streamLog doesn't keep
// the request alive.
type streamLog struct {
	broker.Sink

	log    *slog.Logger
	stream *broker.Stream
	attrs  []slog.Attr // of both lines
	topics int
	start  slog.Attr // where in the past the stream starts; has no key if nowhere
	began  time.Time // when the request was admitted

	// The fields below belong to the shard's goroutine.

	opened bool
	bytes  int64
}

// logStream returns the log of a stream that is about to be opened, or nil if
// debug messages are off.
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
	lines.start = startAttr(sub, r.URL.Query())

	return lines
}

// startAttr returns the attribute for the point at which a stream resumes or starts: a
// well-formed last event id, or a value from the query, which startOf has validated. It
// returns the zero Attr if there is neither.
func startAttr(sub *broker.Subscription, query url.Values) slog.Attr {
	switch n, err := strconv.Atoi(query.Get("rewind")); {
	case sub.LastEventID != "":
		if broker.ValidEventID(sub.LastEventID) == nil {
			return slog.String("last_event_id", strings.Clone(sub.LastEventID))
		}
		return slog.Attr{}
	case sub.Start == broker.Start{}:
		return slog.Attr{}
	case err == nil:
		return slog.Int("rewind", n)
	default:
		return slog.String("since", strings.Clone(query.Get("since")))
	}
}

// around returns a sink that logs, and that passes all calls on to sink. It returns
// sink itself if l is nil.
func (l *streamLog) around(sink broker.Sink, by transport) broker.Sink {
	if l == nil {
		return sink
	}

	l.Sink = sink
	l.attrs = append(l.attrs, slog.String("transport", by.String()))

	return l
}

// Write implements [broker.Sink]. The first call logs that the stream was opened, since
// only a stream that has joined uses its sink.
func (l *streamLog) Write(pieces [][]byte) (int, error) {
	l.logOpening()
	n, err := l.Sink.Write(pieces)
	l.bytes += int64(n)

	return n, err
}

// Unflushed implements [broker.Flusher].
func (l *streamLog) Unflushed() bool {
	f, ok := l.Sink.(broker.Flusher)
	return ok && f.Unflushed()
}

// Flush implements [broker.Flusher].
func (l *streamLog) Flush() {
	if f, ok := l.Sink.(broker.Flusher); ok {
		f.Flush()
	}
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
	if l.start.Key != "" {
		attrs = append(attrs, l.start)
	}
	l.logLine("stream opened", attrs...)
}

func (l *streamLog) logLine(message string, more ...slog.Attr) {
	l.log.LogAttrs(context.Background(), slog.LevelDebug, message, append(slices.Clip(l.attrs), more...)...)
}
