package client

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrClosed means that the server closed the stream.
	ErrClosed = errors.New("stream closed by the server")

	// ErrSilent means that nothing arrived for too long. See [WithSilenceLimit].
	ErrSilent = errors.New("nothing received")

	// ErrIterating means that another iteration over the same subscription is in
	// progress.
	ErrIterating = errors.New("another iteration over the subscription is in progress")
)

// StatusError reports a response other than 200 and 204.
//
// It ends an iteration, unless it is temporary. A 5xx, a 408 or a 425 is temporary, and
// so is a 429 with a Retry-After.
type StatusError struct {
	StatusCode int
	Status     string        // such as "403 Forbidden"
	Reason     string        // the first line of the body, at most 1 KiB
	RetryAfter time.Duration // from the Retry-After header; at most an hour
}

// Error returns the status and the reason.
func (e *StatusError) Error() string {
	if e.Reason == "" {
		return "rejected with " + e.Status
	}
	return "rejected with " + e.Status + ": " + e.Reason
}

// Temporary reports whether the client tries again.
func (e *StatusError) Temporary() bool {
	switch e.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return true
	case http.StatusTooManyRequests:
		return e.RetryAfter > 0
	}
	return e.StatusCode >= http.StatusInternalServerError
}

// ContentTypeError reports a response that isn't an event stream.
type ContentTypeError struct {
	ContentType string
}

// Error returns what was received, and what is accepted.
func (e *ContentTypeError) Error() string {
	return fmt.Sprintf("the response is not an event stream: Content-Type is %q; want text/event-stream", e.ContentType)
}

// EventTooLargeError reports an event whose data exceeds the limit. See
// [WithMaxEventSize].
type EventTooLargeError struct {
	Limit    int    // in bytes
	Position string // before the event
}

// Error returns the limit and the position.
func (e *EventTooLargeError) Error() string {
	return fmt.Sprintf("the event after position %q has more than %d bytes of data; raise the limit with WithMaxEventSize", e.Position, e.Limit)
}

// MalformedEventError reports an event whose data isn't what its type or
// [WithEnvelope] requires.
type MalformedEventError struct {
	ID   string
	Type string
	Data string // at most 100 bytes of it
	Err  error
}

// Error returns the data and what is wrong with it.
func (e *MalformedEventError) Error() string {
	return fmt.Sprintf("event %q of type %q has the data %q: %v", e.ID, e.Type, e.Data, e.Err)
}

// Unwrap returns what is wrong with the data.
func (e *MalformedEventError) Unwrap() error { return e.Err }

// Permanent wraps an error of a token source that ends the iteration. Other errors of
// a token source are temporary.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// isPermanent reports whether it is pointless to try again after err.
func isPermanent(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return !status.Temporary()
	}
	return is[*ContentTypeError](err) || is[*EventTooLargeError](err) || is[*MalformedEventError](err) ||
		is[*permanentError](err) || is[*tls.CertificateVerificationError](err)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// newStatusError returns the error for a response.
func newStatusError(response *http.Response) *StatusError {
	line, _ := bufio.NewReader(io.LimitReader(response.Body, 1<<10)).ReadString('\n')
	return &StatusError{
		StatusCode: response.StatusCode,
		Status:     response.Status,
		Reason:     strings.TrimSpace(strings.ToValidUTF8(line, "\uFFFD")),
		RetryAfter: retryAfter(response.Header.Get("Retry-After")),
	}
}

// longestDelay limits the delays that a server can ask for. Otherwise, a bogus header
// could stop a program for good.
const longestDelay = time.Hour

// retryAfter returns the delay in a Retry-After header (RFC 9110 §10.2.3), or 0.
func retryAfter(value string) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(longestDelay/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(time.Until(at), 0), longestDelay)
}
