package ssehttp

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/peald/peald/internal/broker"
)

// pollLog logs at debug level how a poll ended. It is also the sink of a poll that waits.
type pollLog struct {
	broker.Sink

	log    *slog.Logger
	stream *broker.Stream
	attrs  []slog.Attr
	began  time.Time // when the request was admitted

	// The fields below belong to the shard's goroutine.

	result string // empty until the poll is answered
	events int
}

// logPoll returns the log of a poll, or nil if debug messages are off.
func (h *Handler) logPoll(r *http.Request, rules *rules, sub *broker.Subscription, st *broker.Stream) *pollLog {
	if !h.log.Enabled(r.Context(), slog.LevelDebug) {
		return nil
	}

	attrs := append(requestAttrs(r, rules.clients.addr(r)), slog.String("user", sub.User), slog.Int("topics", len(sub.Topics)))
	if start := startAttr(sub, r.URL.Query()); start.Key != "" {
		attrs = append(attrs, start)
	}
	return &pollLog{log: h.log, stream: st, attrs: attrs, began: time.Now()}
}

// note records the answer to a poll. l may be nil.
func (l *pollLog) note(b *broker.Batch) {
	if l != nil {
		l.result, l.events = b.Result(), len(b.Events)
	}
}

// answered logs the answer to a poll that didn't wait. l may be nil.
func (l *pollLog) answered(b *broker.Batch) {
	if l != nil {
		l.note(b)
		l.line(b.Reason)
	}
}

// around returns a sink that logs, and that passes all calls on to sink. It returns
// sink itself if l is nil.
func (l *pollLog) around(sink broker.Sink, by transport) broker.Sink {
	if l == nil {
		return sink
	}
	l.Sink = sink
	l.attrs = append(l.attrs, slog.String("transport", by.String()))
	return l
}

// Unflushed implements [broker.Flusher].
func (l *pollLog) Unflushed() bool {
	f, ok := l.Sink.(broker.Flusher)
	return ok && f.Unflushed()
}

// Flush implements [broker.Flusher].
func (l *pollLog) Flush() {
	if f, ok := l.Sink.(broker.Flusher); ok {
		f.Flush()
	}
}

// Close implements [broker.Sink].
func (l *pollLog) Close(why broker.Reason) {
	l.line(l.stream.CloseReason(why))
	l.Sink.Close(why)
}

func (l *pollLog) line(why broker.Reason) {
	message := "poll answered"
	attrs := append(slices.Clip(l.attrs), slog.String("reason", why.String()), slog.Duration("duration", time.Since(l.began).Round(time.Millisecond)))
	if l.result == "" {
		message = "poll closed"
	} else {
		attrs = append(attrs, slog.String("result", l.result), slog.Int("events", l.events))
	}
	l.log.LogAttrs(context.Background(), slog.LevelDebug, message, attrs...)
}
