package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// printError prints err on standard error as one line.
func (s *session) printError(err error) {
	fmt.Fprintf(s.stderr, "pealctl: %s\n", strings.Join(strings.Fields(s.describe(err)), " "))
}

// describe returns the error message for err. For a gRPC status it contains the
// meaning, the code and the invalid fields.
func (s *session) describe(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}

	rpcError, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return err.Error()
	}

	st := rpcError.GRPCStatus()
	if st.Code() == codes.Canceled {
		return "interrupted"
	}
	// The daemon's other listeners and all web servers reply like this.
	if st.Code() == codes.Unimplemented && strings.HasPrefix(st.Message(), "unexpected HTTP status") {
		return fmt.Sprintf("the server at %s doesn't speak gRPC; --addr must be the daemon's grpc.addr, by default 127.0.0.1:9090", s.addr)
	}

	details := violations(st)
	if details == "" {
		details = st.Message()
	}
	if hint := s.hint(st); hint != "" {
		details += "; " + hint
	}

	prefix, _ := strings.CutSuffix(err.Error(), rpcError.Error())
	if isTokenMissing(st) {
		return fmt.Sprintf("%sthe daemon requires a control token; set --token or PEALCTL_TOKEN (%s)", prefix, code.Code(st.Code()))
	}

	text := fmt.Sprintf("%s%s (%s)", prefix, s.meaning(st), code.Code(st.Code()))
	if details != "" {
		text += ": " + details
	}

	return text
}

// isTokenMissing reports whether the daemon requires a control token and got
// none.
func isTokenMissing(st *status.Status) bool { return reasonOf(st) == "CONTROL_TOKEN_MISSING" }

// reasonOf returns the reason from the error details, or "" if there is none.
func reasonOf(st *status.Status) string {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// hint suggests a fix for a connection that can't be established, or returns "".
// Only the text of the message identifies the cause.
func (s *session) hint(st *status.Status) string {
	message := st.Message()
	switch {
	case st.Code() != codes.Unavailable:
		return ""
	case strings.Contains(message, "certificate required"), strings.Contains(message, "bad certificate"):
		return "the daemon requires a client certificate; set --cert-file and --key-file"
	case strings.Contains(message, "certificate signed by unknown authority"), strings.Contains(message, "certificate is not trusted"):
		return "set --ca-file to the certificate of the authority"
	case !s.tls.required() && strings.Contains(message, "error reading server preface"):
		return "if the daemon uses TLS, set --tls or --ca-file"
	}
	return ""
}

// violations returns the field violations of a status as text.
func violations(st *status.Status) string {
	var all []string
	for _, detail := range st.Details() {
		bad, ok := detail.(*errdetails.BadRequest)
		if !ok {
			continue
		}

		for _, v := range bad.GetFieldViolations() {
			text := v.GetDescription()
			if !strings.HasPrefix(text, v.GetField()+" ") {
				text = v.GetField() + ": " + text
			}
			all = append(all, text)
		}
	}

	return strings.Join(all, "; ")
}

// meaning explains the code and the reason of a status.
func (s *session) meaning(st *status.Status) string {
	switch reasonOf(st) {
	case "LOG_UNAVAILABLE":
		return "the cluster's event log is unavailable"
	case "POSITION_EXPIRED":
		return "messages are missing"
	case "POSITION_UNKNOWN":
		return "unknown position"
	case "NOT_REMOVABLE":
		return "the node can't be removed"
	case "UNKNOWN_NODE":
		return "unknown node"
	case "UNKNOWN_HOOK":
		return "unknown webhook"
	}
	switch st.Code() {
	case codes.InvalidArgument:
		return "invalid request"
	case codes.Unauthenticated:
		return "unknown control token; set --token or PEALCTL_TOKEN to a valid one"
	case codes.PermissionDenied:
		return "the control token doesn't have the required scope"
	case codes.Unavailable:
		return "the daemon at " + s.addr + " is unreachable or shutting down"
	case codes.DeadlineExceeded:
		return fmt.Sprintf("no reply from the daemon at %s within %s", s.addr, s.timeout)
	case codes.FailedPrecondition:
		return "the daemon isn't configured for this call"
	case codes.Unimplemented:
		return "the daemon doesn't implement this call; it may be older than this pealctl"
	case codes.ResourceExhausted:
		return "a limit of the daemon was exceeded"
	case codes.AlreadyExists:
		return "the idempotency key was used for another message"
	case codes.Aborted:
		return "the daemon canceled the call; try again"
	case codes.NotFound:
		return "not found"
	default:
		return "internal error in the daemon"
	}
}
