package apierror

import "google.golang.org/grpc/codes"

// The reasons that let programs distinguish errors.
const (
	ReasonInvalidField     = "INVALID_FIELD"
	ReasonInvalidRequest   = "INVALID_REQUEST"
	ReasonRequestTooLarge  = "REQUEST_TOO_LARGE"
	ReasonMediaType        = "UNSUPPORTED_MEDIA_TYPE"
	ReasonTokenMissing     = "CONTROL_TOKEN_MISSING"
	ReasonTokenUnknown     = "CONTROL_TOKEN_UNKNOWN"
	ReasonScopeMissing     = "CONTROL_SCOPE_MISSING"
	ReasonNoSigningKey     = "NO_SIGNING_KEY"
	ReasonNotEndable       = "NOT_ENDABLE"
	ReasonUnknownNode      = "UNKNOWN_NODE"
	ReasonNotRemovable     = "NOT_REMOVABLE"
	ReasonUnknownHook      = "UNKNOWN_HOOK"
	ReasonKeyUsed          = "IDEMPOTENCY_KEY_USED"
	ReasonRetainFull       = "RETAIN_FULL"
	ReasonWatchOverflow    = "WATCH_OVERFLOW"
	ReasonRateLimit        = "RATE_LIMIT"
	ReasonStopping         = "STOPPING"
	ReasonLogUnavailable   = "LOG_UNAVAILABLE"
	ReasonPositionExpired  = "POSITION_EXPIRED"
	ReasonPositionUnknown  = "POSITION_UNKNOWN"
	ReasonDeadline         = "DEADLINE_EXCEEDED"
	ReasonCancelled        = "CANCELLED"
	ReasonForeignOrigin    = "FOREIGN_ORIGIN"
	ReasonForeignHost      = "FOREIGN_HOST"
	ReasonUnknownPath      = "UNKNOWN_PATH"
	ReasonMethodNotAllowed = "METHOD_NOT_ALLOWED"
	ReasonInternal         = "INTERNAL"
)

// CodesByReason maps each reason for rejecting a call to its code. It omits
// ReasonCancelled, because a call canceled by its caller isn't rejected. It also omits
// ReasonNotEndable, because the daemon can always be drained.
func CodesByReason() map[string]codes.Code {
	return map[string]codes.Code{
		ReasonInvalidField:     codes.InvalidArgument,
		ReasonInvalidRequest:   codes.InvalidArgument,
		ReasonRequestTooLarge:  codes.ResourceExhausted,
		ReasonMediaType:        codes.InvalidArgument,
		ReasonTokenMissing:     codes.Unauthenticated,
		ReasonTokenUnknown:     codes.Unauthenticated,
		ReasonScopeMissing:     codes.PermissionDenied,
		ReasonNoSigningKey:     codes.FailedPrecondition,
		ReasonUnknownNode:      codes.NotFound,
		ReasonNotRemovable:     codes.FailedPrecondition,
		ReasonUnknownHook:      codes.NotFound,
		ReasonKeyUsed:          codes.AlreadyExists,
		ReasonRetainFull:       codes.ResourceExhausted,
		ReasonWatchOverflow:    codes.Aborted,
		ReasonRateLimit:        codes.ResourceExhausted,
		ReasonStopping:         codes.Unavailable,
		ReasonLogUnavailable:   codes.Unavailable,
		ReasonPositionExpired:  codes.OutOfRange,
		ReasonPositionUnknown:  codes.OutOfRange,
		ReasonDeadline:         codes.DeadlineExceeded,
		ReasonForeignOrigin:    codes.PermissionDenied,
		ReasonForeignHost:      codes.PermissionDenied,
		ReasonUnknownPath:      codes.NotFound,
		ReasonMethodNotAllowed: codes.Unimplemented,
		ReasonInternal:         codes.Internal,
	}
}
