package apierror_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/internal/broker"
)

// convertible is an error from another package that defines how callers receive it.
type convertible struct{}

func (convertible) Error() string { return "for the log" }

func (convertible) APIError() *apierror.Error {
	return apierror.New(codes.NotFound, apierror.ReasonUnknownNode, "for the caller")
}

func TestFrom(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		code   codes.Code
		reason string
	}{
		"error":         {apierror.New(codes.Internal, "X", "x"), codes.Internal, "X"},
		"convertible":   {convertible{}, codes.NotFound, apierror.ReasonUnknownNode},
		"invalid field": {&broker.InvalidError{Field: "data", Reason: "is empty"}, codes.InvalidArgument, apierror.ReasonInvalidField},
		"no quorum":     {&broker.UnavailableError{Reason: "no quorum"}, codes.Unavailable, apierror.ReasonLogUnavailable},
		"key used":      {broker.ErrKeyUsed, codes.AlreadyExists, apierror.ReasonKeyUsed},
		"slow watch":    {broker.ErrWatchOverflow, codes.Aborted, apierror.ReasonWatchOverflow},
		"expired":       {&broker.PositionError{ID: "a-1", Reason: broker.ResetExpired}, codes.OutOfRange, apierror.ReasonPositionExpired},
		"unknown":       {&broker.PositionError{ID: "a-1", Reason: broker.ResetUnknown}, codes.OutOfRange, apierror.ReasonPositionUnknown},
		"behind":        {broker.ErrBehind, codes.Unavailable, apierror.ReasonLogUnavailable},
		"suspended":     {broker.ErrSuspended, codes.Unavailable, apierror.ReasonLogUnavailable},
		"closed":        {broker.ErrClosed, codes.Unavailable, apierror.ReasonStopping},
		"deadline":      {context.DeadlineExceeded, codes.DeadlineExceeded, apierror.ReasonDeadline},
		"canceled":      {context.Canceled, codes.Canceled, apierror.ReasonCancelled},
	} {
		got := apierror.From(fmt.Errorf("wrapped: %w", c.err))
		if got == nil || got.Code != c.code || got.Reason != c.reason {
			t.Errorf("%s: %+v, want code %v and reason %s", name, got, c.code, c.reason)
		}
	}

	if got := apierror.From(errors.New("unexpected")); got != nil {
		t.Errorf("unexpected error: %+v, want nil", got)
	}
}

func TestStatus(t *testing.T) {
	if st, expected := apierror.Status(errors.New("secret")); expected || st.Code() != codes.Internal || st.Message() == "secret" {
		t.Errorf("unexpected error: %v, expected %v", st, expected)
	}

	if st, expected := apierror.Status(status.Error(codes.ResourceExhausted, "too large")); !expected || st.Message() != "too large" {
		t.Errorf("error from gRPC: %v, expected %v", st, expected)
	}

	invalid := apierror.Invalid(
		apierror.Field{Name: "data", Problem: apierror.NotUTF8},
		apierror.Field{Name: "a b", Problem: "is not a field"},
	)
	invalid.RetryAfter = time.Second

	st := invalid.Status()
	if want := `data is not valid UTF-8; "a b" is not a field`; st.Message() != want {
		t.Errorf("message %q, want %q", st.Message(), want)
	}

	for i, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != "peald" || d.GetReason() != apierror.ReasonInvalidField || d.GetMetadata()["field"] != "data" {
				t.Errorf("detail %d is %v", i, d)
			}
		case *errdetails.RetryInfo:
			if d.GetRetryDelay().AsDuration() != time.Second {
				t.Errorf("detail %d is %v", i, d)
			}
		case *errdetails.BadRequest:
			if len(d.GetFieldViolations()) != 2 {
				t.Errorf("detail %d is %v", i, d)
			}
		default:
			t.Errorf("unwanted detail %v", d)
		}
	}

	if n := len(st.Details()); n != 3 {
		t.Errorf("%d details, want 3", n)
	}
}

// An invalid field that isn't UTF-8 can't be encoded, but the code can.
func TestStatusWithInvalidUTF8(t *testing.T) {
	if st := apierror.Invalid(apierror.Field{Name: "a\xff", Problem: "is wrong"}).Status(); st.Code() != codes.InvalidArgument {
		t.Errorf("%v, want INVALID_ARGUMENT", st)
	}
}
