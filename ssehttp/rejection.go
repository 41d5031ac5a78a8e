package ssehttp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// Cause is the reason why a request was rejected or its client was asked to retry.
type Cause uint8

// The causes of rejections.
const (
	// BadRequest means that the request isn't for a stream or is malformed.
	BadRequest Cause = iota
	// BadToken means that the token is invalid, or missing and required.
	BadToken
	// BadOrigin means that the request comes from a page that may not act for
	// its user.
	BadOrigin
	// BadTopic means that a topic isn't allowed.
	BadTopic
	// Denied means that the application denied the request.
	Denied
	// Banned means that the user is banned for a while.
	Banned
	// UserLimit means that the user has reached the limit on streams per user.
	UserLimit
	// AddressLimit means that the address has reached the limit on streams per
	// address.
	AddressLimit
	// Full means that the daemon has reached the limit on streams.
	Full
	// Rate means that too many streams are being opened per second.
	Rate
	// Draining means that the daemon is shutting down.
	Draining
	// Unavailable means that the request can't be authenticated at the moment.
	Unavailable
	// Suspended means that the daemon must catch up with its cluster first.
	Suspended
	// Ended means that the only topic has ended, and the client has received its last
	// event.
	Ended
	// Failed means that the connection could not be taken over for a stream.
	Failed

	causes
)

// String returns the cause's name in metrics and logs.
func (c Cause) String() string {
	return [...]string{
		"bad_request", "token", "origin", "topic", "denied", "stay_away", "max_connections_per_user", "max_connections_per_ip",
		"max_connections", "max_connects_per_second", "draining", "unavailable", "suspended", "ended", "failed",
	}[c]
}

// rejection is the error for a request that gets no stream. A permanent rejection has a
// status. If the status is 0, the client is asked to retry.
type rejection struct {
	cause  Cause
	status int
	reason string
	quotes bool // reason quotes the request's URL or a header, and isn't logged
}

func (rej *rejection) Error() string { return rej.reason }

// reject returns a permanent rejection.
func reject(cause Cause, status int, format string, args ...any) *rejection {
	return &rejection{cause: cause, status: status, reason: fmt.Sprintf(format, args...)}
}

// rejectQuoting is like reject, but for a reason that quotes the request's URL or a
// header. It shortens the strings in args.
func rejectQuoting(cause Cause, status int, format string, args ...any) *rejection {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = shortened(text)
		}
	}
	rej := reject(cause, status, format, args...)
	rej.quotes = true
	return rej
}

// askToRetry returns a rejection that asks the client to retry.
func askToRetry(cause Cause) *rejection {
	var reason string
	switch cause {
	case Draining:
		reason = "the daemon is shutting down"
	case Suspended:
		reason = "the daemon is catching up with its cluster or is partitioned from it"
	default:
		reason = "no more streams can be opened at the moment"
	}
	return &rejection{cause: cause, reason: reason}
}

// startFailed returns the rejection for a stream whose start failed with err.
func startFailed(err error) *rejection {
	switch {
	case errors.Is(err, broker.ErrSuspended):
		return askToRetry(Suspended)
	case errors.Is(err, broker.ErrClosed):
		return askToRetry(Draining)
	case errors.Is(err, broker.ErrTooLarge):
		return reject(BadRequest, http.StatusRequestEntityTooLarge, "the retained values for this request are larger than broker.queue_bytes; open a stream, or name fewer topics")
	}
	return &rejection{cause: Failed, reason: err.Error()}
}

// rejections counts rejections by cause.
type rejections [causes]atomic.Int64

// Rejected returns how many requests haven't received a stream since the handler was
// created, by the name of the cause.
func (h *Handler) Rejected() map[string]int64 {
	found := make(map[string]int64, causes)
	for c := range causes {
		found[c.String()] = h.rejected[c].Load()
	}
	return found
}

// record counts a rejection and logs it at debug level. user is empty if it is unknown.
func (h *Handler) record(r *http.Request, rules *rules, user string, rej *rejection) {
	h.rejected[rej.cause].Add(1)
	h.logRejection(r, rules, user, rej)
	if rej.cause == Failed {
		h.failures.Do(func() { h.log.Warn("stream not opened", "error", rej.reason) })
	}
}

// reject records a rejection and writes the response. user is empty if it is unknown.
func (h *Handler) reject(w http.ResponseWriter, r *http.Request, rules *rules, user string, rej *rejection) {
	h.record(r, rules, user, rej)
	w.Header().Del("Content-Encoding") // set for a stream that could not be started
	if rej.status == 0 {
		writeRetry(w, r, rules.cfg.Retry, rej)
		return
	}
	writeRejection(w, rej)
}

// writeRejection writes a permanent rejection: a status and one line.
func writeRejection(w http.ResponseWriter, rej *rejection) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if rej.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(rej.status)
	if rej.reason != "" {
		fmt.Fprintln(w, rej.reason)
	}
}

// writeRetry asks a client to retry. A client that accepts event streams by name gets a
// stream with nothing but a reconnection time. Any other client gets a 503, and so does
// one that prefers JSON.
func writeRetry(w http.ResponseWriter, r *http.Request, retry time.Duration, rej *rejection) {
	wait := retryAfter(retry)
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	if formatOf(r.Header) == jsonFormat || !acceptsStreamsByName(r.Header) {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		writeRejection(w, reject(rej.cause, http.StatusServiceUnavailable, "%s", rej.reason))
		return
	}
	streamHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(retryBlock(r, wait))
}

// retryAfter returns a random reconnection time between retry and twice that, so that
// clients asked to retry at the same time don't all reconnect at the same time.
func retryAfter(retry time.Duration) time.Duration { return retry + rand.N(retry+1) }

// retryBlock returns the only block of a stream that asks the client that sent r
// to retry. It repeats the client's last event id, since some clients, such as
// httpx-sse, take their position from the last block they read.
func retryBlock(r *http.Request, wait time.Duration) []byte {
	block := eventstream.AppendRetry(nil, wait)
	if from, rej := startOf(r.Header, r.URL.Query()); rej == nil && broker.ValidEventID(from.lastEventID) == nil {
		block = eventstream.AppendID(block, from.lastEventID)
	}
	return eventstream.AppendEnd(block)
}

// retryBody returns a whole response body that asks the client that sent r to retry,
// for a connection that has been taken over. The response's head has already been
// written, for a body of the given form.
func retryBody(r *http.Request, retry time.Duration, form broker.Opening) []byte {
	block := retryBlock(r, retryAfter(retry))
	if form.Gzip {
		block = gzipBody(block)
	}
	if !form.Chunked {
		return block
	}

	var body bytes.Buffer
	coding := httputil.NewChunkedWriter(&body)
	_, _ = coding.Write(block) // writing to a buffer can't fail
	_ = coding.Close()
	body.WriteString("\r\n")
	return body.Bytes()
}
