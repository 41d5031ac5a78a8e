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

// Cause is why a request was refused.
type Cause uint8

// The causes for which requests are refused.
const (
	// BadRequest: it is none for a stream, or can't be understood.
	BadRequest Cause = iota
	// BadToken: its token is not good, or it has none and needs one.
	BadToken
	// BadOrigin: it is from a page that may not act as its user.
	BadOrigin
	// BadTopic: it asks for a topic that is not allowed.
	BadTopic
	// Denied: the application refused it.
	Denied
	// Banned: its user is banned for a while.
	Banned
	// UserLimit: the user has as many streams as a user may have.
	UserLimit
	// AddressLimit: the address has as many streams as an address may have.
	AddressLimit
	// Full: there are as many streams as there may be.
	Full
	// Rate: too many connect at once.
	Rate
	// Draining: the daemon is stopping.
	Draining
	// Unavailable: nobody can tell now who it is from.
	Unavailable
	// Suspended: the daemon has to catch up with others before it can go on.
	Suspended
	// Failed: the connection could not be taken over from net/http.
	Failed

	causes
)

// String returns the cause's name in figures.
func (c Cause) String() string {
	return [...]string{
		"bad_request", "token", "origin", "topic", "denied", "stay_away", "max_connections_per_user", "max_connections_per_ip",
		"max_connections", "max_connects_per_second", "draining", "unavailable", "suspended", "failed",
	}[c]
}

// refusal is an error that ends a request: with a status of its own, or, for
// those that pass, without.
type refusal struct {
	cause  Cause
	status int
	reason string
	quotes bool // reason has a part of the request's URL or a header, and isn't logged
}

func (r *refusal) Error() string { return r.reason }

func refuse(cause Cause, status int, format string, args ...any) *refusal {
	return &refusal{cause: cause, status: status, reason: fmt.Sprintf(format, args...)}
}

// quoting is refuse for a reason that has a part of the request's URL or a
// header.
func quoting(cause Cause, status int, format string, args ...any) *refusal {
	why := refuse(cause, status, format, args...)
	why.quotes = true
	return why
}

// later refuses a request for the moment.
func later(cause Cause) *refusal {
	var reason string
	switch cause {
	case Draining:
		reason = "the daemon is stopping"
	case Suspended:
		reason = "the daemon has to catch up with its cluster first, or is cut off from it"
	default:
		reason = "no more streams can be opened at the moment"
	}
	return &refusal{cause: cause, reason: reason}
}

// notStarted returns the refusal of a stream that a broker didn't start.
func notStarted(err error) *refusal {
	switch {
	case errors.Is(err, broker.ErrSuspended):
		return later(Suspended)
	case errors.Is(err, broker.ErrClosed):
		return later(Draining)
	}
	return &refusal{cause: Failed, reason: err.Error()}
}

// refusals counts refusals by their causes.
type refusals [causes]atomic.Int64

// Rejected returns how many requests were refused since the start, by the names
// of the causes.
func (h *Handler) Rejected() map[string]int64 {
	found := make(map[string]int64, causes)
	for c := range causes {
		found[c.String()] = h.refused[c].Load()
	}
	return found
}

// note counts a request that gets no stream, and logs it at debug.
func (h *Handler) note(r *http.Request, rules *rules, user string, why *refusal) {
	h.refused[why.cause].Add(1)
	h.logRejection(r, rules, user, why)
	if why.cause == Failed {
		h.failures.Do(func() { h.log.Warn("stream not opened", "error", why.reason) })
	}
}

// refuse answers a request that gets no stream. The user is empty where it
// isn't known.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, rules *rules, user string, why *refusal) {
	h.note(r, rules, user, why)
	if why.status == 0 {
		refuseForNow(w, r, rules.cfg.Retry, why)
		return
	}
	writeRefusal(w, why)
}

// writeRefusal writes a refusal that lasts: a status and one line.
func writeRefusal(w http.ResponseWriter, r *refusal) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if r.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(r.status)
	if r.reason != "" {
		fmt.Fprintln(w, r.reason)
	}
}

// refuseForNow asks a client to retry: by an event stream that only has a
// reconnection time if the client asks for one by name, otherwise by a 503.
func refuseForNow(w http.ResponseWriter, r *http.Request, retry time.Duration, why *refusal) {
	wait := retryAfter(retry)
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	if !acceptsStreamsByName(r.Header) {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		writeRefusal(w, refuse(why.cause, http.StatusServiceUnavailable, "%s", why.reason))
		return
	}
	streamHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(retryBlock(r, wait))
}

// retryAfter returns a reconnection time between retry and twice as long, so
// that clients that are refused together don't reconnect together.
func retryAfter(retry time.Duration) time.Duration { return retry + rand.N(retry+1) }

// retryBlock returns the only block of a stream that asks the client of r to
// retry. It repeats the client's last event id, since some clients, such as
// httpx-sse, take their position from the last block they read.
func retryBlock(r *http.Request, wait time.Duration) []byte {
	block := eventstream.AppendRetry(nil, wait)
	if id, why := lastEventID(r.Header, r.URL.Query()); why == nil && broker.ValidEventID(id) == nil {
		block = eventstream.AppendID(block, id)
	}
	return eventstream.AppendEnd(block)
}

// lateRefusal returns the whole body of a refusal on a connection that has left
// net/http.
func lateRefusal(r *http.Request, retry time.Duration, chunked bool) []byte {
	block := retryBlock(r, retryAfter(retry))
	if !chunked {
		return block
	}
	var body bytes.Buffer
	coding := httputil.NewChunkedWriter(&body)
	_, _ = coding.Write(block)
	_ = coding.Close() // a buffer takes everything
	body.WriteString("\r\n")
	return body.Bytes()
}
