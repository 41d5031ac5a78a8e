package http2conn

import (
	"fmt"

	"golang.org/x/net/http2"
)

// Cause classifies why a connection failed.
type Cause uint8

// Causes of connection errors. All except Violation are floods.
const (
	Violation  Cause = iota // the client violated the protocol
	Requests                // too many requests arrived in a short time
	RapidReset              // too many streams were reset before they had a response
	Frames                  // too many frames transfer nothing
	FieldBlock              // a field block has too many bytes or frames
	Unread                  // the client causes replies that it doesn't read
)

// String returns a short name such as "rapid reset".
func (c Cause) String() string {
	switch c {
	case Requests:
		return "request flood"
	case RapidReset:
		return "rapid reset"
	case Frames:
		return "frame flood"
	case FieldBlock:
		return "endless field block"
	case Unread:
		return "unread replies"
	default:
		return "protocol violation"
	}
}

// Error is a connection error (RFC 9113 §5.4.1). The connection's output contains a
// GOAWAY frame with its code.
type Error struct {
	Code   http2.ErrCode
	Cause  Cause
	Reason string // for the log; it contains nothing that the client sent
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("http2: %s: %s (%s)", e.Cause, e.Reason, e.Code)
}

// Flood reports whether the client exceeded a limit rather than violating the
// protocol.
func (e *Error) Flood() bool { return e.Cause != Violation }

func violation(code http2.ErrCode, reason string) *Error {
	return &Error{Code: code, Cause: Violation, Reason: reason}
}

func flood(cause Cause, reason string) *Error {
	return &Error{Code: http2.ErrCodeEnhanceYourCalm, Cause: cause, Reason: reason}
}

// resetError is the cause of a stream error if the client has reset the stream.
type resetError struct{}

// Error implements error.
func (resetError) Error() string { return "reset by the client" }

// malformedError describes why a request is malformed (RFC 9113 §8.1.1).
type malformedError string

// Error implements error.
func (e malformedError) Error() string { return "malformed request: " + string(e) }
