package control

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

// errorDomain is ErrorInfo's: whose reasons they are.
const errorDomain = "peald"

// The reasons that callers can tell errors apart by, in ErrorInfo.
const (
	reasonInvalidField     = "INVALID_FIELD"
	reasonInvalidRequest   = "INVALID_REQUEST"
	reasonRequestTooLarge  = "REQUEST_TOO_LARGE"
	reasonMediaType        = "UNSUPPORTED_MEDIA_TYPE"
	reasonTokenMissing     = "CONTROL_TOKEN_MISSING"
	reasonTokenUnknown     = "CONTROL_TOKEN_UNKNOWN"
	reasonScopeMissing     = "CONTROL_SCOPE_MISSING"
	reasonNoSigningKey     = "NO_SIGNING_KEY"
	reasonNotEndable       = "NOT_ENDABLE"
	reasonUnknownNode      = "UNKNOWN_NODE"
	reasonNotRemovable     = "NOT_REMOVABLE"
	reasonKeyUsed          = "IDEMPOTENCY_KEY_USED"
	reasonWatchOverflow    = "WATCH_OVERFLOW"
	reasonRateLimit        = "RATE_LIMIT"
	reasonStopping         = "STOPPING"
	reasonLogUnavailable   = "LOG_UNAVAILABLE"
	reasonDeadline         = "DEADLINE_EXCEEDED"
	reasonCancelled        = "CANCELLED"
	reasonForeignOrigin    = "FOREIGN_ORIGIN"
	reasonForeignHost      = "FOREIGN_HOST"
	reasonUnknownPath      = "UNKNOWN_PATH"
	reasonMethodNotAllowed = "METHOD_NOT_ALLOWED"
	reasonInternal         = "INTERNAL"
)

// codesOfReasons has all reasons that calls are refused for, each with its
// code. That a caller gave up is none.
func codesOfReasons() map[string]codes.Code {
	return map[string]codes.Code{
		reasonInvalidField:     codes.InvalidArgument,
		reasonInvalidRequest:   codes.InvalidArgument,
		reasonRequestTooLarge:  codes.ResourceExhausted,
		reasonMediaType:        codes.InvalidArgument,
		reasonTokenMissing:     codes.Unauthenticated,
		reasonTokenUnknown:     codes.Unauthenticated,
		reasonScopeMissing:     codes.PermissionDenied,
		reasonNoSigningKey:     codes.FailedPrecondition,
		reasonUnknownNode:      codes.NotFound,
		reasonNotRemovable:     codes.FailedPrecondition,
		reasonKeyUsed:          codes.AlreadyExists,
		reasonWatchOverflow:    codes.Aborted,
		reasonRateLimit:        codes.ResourceExhausted,
		reasonStopping:         codes.Unavailable,
		reasonLogUnavailable:   codes.Unavailable,
		reasonDeadline:         codes.DeadlineExceeded,
		reasonForeignOrigin:    codes.PermissionDenied,
		reasonForeignHost:      codes.PermissionDenied,
		reasonUnknownPath:      codes.NotFound,
		reasonMethodNotAllowed: codes.Unimplemented,
		reasonInternal:         codes.Internal,
	}
}

// refusedError is a request that is not carried out, in the words that the
// caller gets.
type refusedError struct {
	code    codes.Code
	reason  string
	message string
	fields  []fieldError
	about   map[string]string // ErrorInfo's metadata

	retryAfter time.Duration // when it may be tried again, if not at once

	httpStatus int // where REST answers with another than code maps to
}

// fieldError says what is wrong with a field: text completes a sentence that
// begins with the field's name.
type fieldError struct{ name, text string }

// What is wrong with fields in more than one way to get here.
const (
	notUTF8      = "is not valid UTF-8"
	moreThanOnce = "is given more than once"
)

func (e *refusedError) Error() string { return e.message }

func refuse(code codes.Code, reason, message string) *refusedError {
	return &refusedError{code: code, reason: reason, message: message}
}

// invalid refuses a request for what is wrong with its fields.
func invalid(fields ...fieldError) *refusedError {
	sentences := make([]string, len(fields))
	for i, f := range fields {
		sentences[i] = f.sentence()
	}
	return &refusedError{
		code:    codes.InvalidArgument,
		reason:  reasonInvalidField,
		message: strings.Join(sentences, "; "),
		fields:  fields,
		about:   map[string]string{"field": fields[0].name},
	}
}

func (f fieldError) sentence() string {
	name := f.name
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("_.[]", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		name = strconv.Quote(name)
	}
	return name + " " + f.text
}

// refusalOf is the one place where errors get the form that callers see. It
// returns nil for an error that they are not to see.
func refusalOf(err error) *refusedError {
	if refused, ok := errors.AsType[*refusedError](err); ok {
		return refused
	}
	if field, ok := errors.AsType[*broker.InvalidError](err); ok {
		return invalid(fieldError{field.Field, field.Reason})
	}
	if unavailable, ok := errors.AsType[*broker.UnavailableError](err); ok {
		return refuse(codes.Unavailable, reasonLogUnavailable, unavailable.Reason)
	}
	if membership, ok := errors.AsType[*MembershipError](err); ok {
		return membership.refusal()
	}
	switch {
	case errors.Is(err, broker.ErrKeyUsed):
		used := refuse(codes.AlreadyExists, reasonKeyUsed,
			"idempotency_key came with another message before; the same key is accepted with the same message alone")
		used.about = map[string]string{"field": "idempotency_key"}
		return used
	case errors.Is(err, broker.ErrWatchOverflow):
		return refuse(codes.Aborted, reasonWatchOverflow, "the watch was read too slowly to be told all; a new one begins with who is there now")
	case errors.Is(err, broker.ErrClosed):
		return refuse(codes.Unavailable, reasonStopping, "the daemon is stopping; try again, or at another one")
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(codes.DeadlineExceeded, reasonDeadline, "the deadline passed before the call was done")
	case errors.Is(err, context.Canceled):
		return refuse(codes.Canceled, reasonCancelled, "the caller canceled the call")
	}
	return nil
}

// statusOf is err as gRPC has it, and whether the caller gets to know what it
// was.
func statusOf(err error) (st *status.Status, told bool) {
	if refused := refusalOf(err); refused != nil {
		return refused.status(), true
	}
	// What gRPC itself finds, such as a message beyond the limit.
	if st, ok := status.FromError(err); ok {
		return st, true
	}
	return internalError().status(), false
}

// internalError is what callers get in the place of what they are not to see.
func internalError() *refusedError {
	return refuse(codes.Internal, reasonInternal, "an error inside the daemon; its log says more")
}

func (e *refusedError) status() *status.Status {
	st := status.New(e.code, e.message)
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: e.reason, Domain: errorDomain, Metadata: e.about},
	}
	if e.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	if len(e.fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, f := range e.fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field:       f.name,
				Description: f.sentence(),
			})
		}
		details = append(details, bad)
	}
	detailed, err := st.WithDetails(details...)
	if err != nil {
		// A field's name or text that is no UTF-8 can't be encoded; the code
		// and the message still can.
		return st
	}
	return detailed
}
