// Package apierror defines the errors of the control plane. They are the same
// over gRPC and REST: a canonical code, a reason that programs can test for, a
// message, and the invalid fields of the request.
package apierror

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/internal/broker"
)

// domain is the domain of every ErrorInfo. Reasons are unique within it.
const domain = "peald"

// MaxFields is the maximum number of fields that an error should name.
const MaxFields = 10

// Error is an error as callers receive it.
type Error struct {
	// Code is the canonical code.
	Code codes.Code

	// Reason identifies the error to programs. It becomes the reason of the ErrorInfo.
	Reason string

	// Message is the human-readable error message.
	Message string

	// Fields holds the invalid fields of the request, if any.
	Fields []Field

	// Metadata becomes the metadata of the ErrorInfo.
	Metadata map[string]string

	// RetryAfter is the delay after which the caller may retry, or 0 if none is known.
	RetryAfter time.Duration

	// HTTPStatus, if not 0, overrides the HTTP status that REST derives from Code.
	HTTPStatus int
}

// New returns an error without fields.
func New(code codes.Code, reason, message string) *Error {
	return &Error{Code: code, Reason: reason, Message: message}
}

// Invalid returns the error for a request with invalid fields. There must be at least
// one field.
func Invalid(fields ...Field) *Error {
	sentences := make([]string, len(fields))
	for i, f := range fields {
		sentences[i] = f.Sentence()
	}

	return &Error{
		Code:     codes.InvalidArgument,
		Reason:   ReasonInvalidField,
		Message:  strings.Join(sentences, "; "),
		Fields:   fields,
		Metadata: map[string]string{"field": fields[0].Name},
	}
}

// Internal returns the error that callers receive in place of an unexpected one.
// The details of the unexpected error go only to the log.
func Internal() *Error {
	return New(codes.Internal, ReasonInternal, "internal error; see the daemon's log")
}

// Stopping returns the error for calls to a daemon that is shutting down.
func Stopping() *Error {
	return New(codes.Unavailable, ReasonStopping, "the daemon is shutting down; retry, or call another daemon")
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Field describes an invalid field of a request.
type Field struct {
	// Name is the field's name.
	Name string

	// Problem completes a sentence that starts with the name, such as "is not
	// valid UTF-8".
	Problem string
}

// Problems that are reported in several places.
const (
	NotUTF8      = "is not valid UTF-8"
	MoreThanOnce = "is given more than once"
)

// Sentence returns the field's name followed by its problem. It quotes names with
// unusual characters.
func (f Field) Sentence() string {
	name := f.Name
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("_.[]", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		name = strconv.Quote(name)
	}

	return name + " " + f.Problem
}

// Printable prepares a name that the caller chose for use in an error: it shortens the
// name and makes it valid UTF-8.
func Printable(name string) string {
	const most = 80
	if len(name) > most {
		name = name[:most] + "…"
	}

	return strings.ToValidUTF8(name, "\uFFFD")
}

// Convertible is implemented by error types in other packages to define how callers
// receive them.
type Convertible interface {
	error

	// APIError returns the error as callers receive it.
	APIError() *Error
}

// From returns err as callers receive it. It returns nil for an unexpected error, which
// must not be shown to callers.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if c, ok := errors.AsType[Convertible](err); ok {
		return c.APIError()
	}
	if field, ok := errors.AsType[*broker.InvalidError](err); ok {
		return Invalid(Field{field.Field, field.Reason})
	}
	if position, ok := errors.AsType[*broker.PositionError](err); ok {
		return fromPosition(position)
	}
	if unavailable, ok := errors.AsType[*broker.UnavailableError](err); ok {
		return New(codes.Unavailable, ReasonLogUnavailable, unavailable.Reason)
	}

	if full, ok := errors.AsType[*broker.RetainFullError](err); ok {
		return New(codes.ResourceExhausted, ReasonRetainFull, "the message "+full.Error())
	}

	switch {
	case errors.Is(err, broker.ErrKeyUsed):
		used := New(codes.AlreadyExists, ReasonKeyUsed,
			"idempotency_key was already used for a different message; use a new key for each message")
		used.Metadata = map[string]string{"field": "idempotency_key"}
		return used
	case errors.Is(err, broker.ErrWatchOverflow):
		return New(codes.Aborted, ReasonWatchOverflow,
			"the watch was read too slowly and lost changes; start a new one, which begins with the users present now")
	case errors.Is(err, broker.ErrBehind):
		return New(codes.Unavailable, ReasonLogUnavailable, "the node hasn't received this event yet; try again")
	case errors.Is(err, broker.ErrSuspended):
		return New(codes.Unavailable, ReasonLogUnavailable, "the node isn't up to date with the event log; try again")
	case errors.Is(err, broker.ErrClosed):
		return Stopping()
	case errors.Is(err, context.DeadlineExceeded):
		return New(codes.DeadlineExceeded, ReasonDeadline, "the deadline passed before the call finished")
	case errors.Is(err, context.Canceled):
		return New(codes.Canceled, ReasonCancelled, "the caller canceled the call")
	}
	return nil
}

// fromPosition returns the error for a position that isn't in the history.
func fromPosition(err *broker.PositionError) *Error {
	reason := ReasonPositionExpired
	if err.Reason == broker.ResetUnknown {
		reason = ReasonPositionUnknown
	}
	e := New(codes.OutOfRange, reason, err.Error())
	e.Metadata = map[string]string{"id": err.ID, "oldest": err.Oldest}
	return e
}

// Status returns err as a gRPC status. Expected is false if err was unexpected,
// in which case the status is from [Internal].
func Status(err error) (st *status.Status, expected bool) {
	if e := From(err); e != nil {
		return e.Status(), true
	}
	// The error is from gRPC itself, for example because a message is too large.
	if st, ok := status.FromError(err); ok {
		return st, true
	}

	return Internal().Status(), false
}

// Status returns e as a gRPC status with details.
func (e *Error) Status() *status.Status {
	st := status.New(e.Code, e.Message)
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: e.Reason, Domain: domain, Metadata: e.Metadata},
	}

	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}

	if len(e.Fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, f := range e.Fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field:       f.Name,
				Description: f.Sentence(),
			})
		}

		details = append(details, bad)
	}

	detailed, err := st.WithDetails(details...)
	if err != nil {
		// The details can't be encoded if a field's name or problem isn't valid UTF-8.
		// Return only the code and the message.
		return st
	}

	return detailed
}
