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

// complain prints err as the one line that a failed run ends with.
func (s *session) complain(err error) {
	fmt.Fprintf(s.stderr, "pealctl: %s\n", strings.Join(strings.Fields(s.describe(err)), " "))
}

// describe says in words what err means: a status of the control plane with
// its name, its meaning and the fields that it names.
func (s *session) describe(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}

	refusal, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return err.Error()
	}

	st := refusal.GRPCStatus()
	if st.Code() == codes.Canceled {
		return "interrupted"
	}
	// So answer the daemon's other listeners, and any web server.
	if st.Code() == codes.Unimplemented && strings.HasPrefix(st.Message(), "unexpected HTTP status") {
		return fmt.Sprintf("what answers at %s speaks HTTP and no gRPC: --addr has to be the daemon's grpc.addr, by default 127.0.0.1:9090", s.addr)
	}

	details := violations(st)
	if details == "" {
		details = st.Message()
	}
	if hint := s.hint(st); hint != "" {
		details += "; " + hint
	}

	doing, _ := strings.CutSuffix(err.Error(), refusal.Error())
	if lacksToken(st) {
		return fmt.Sprintf("%sthe daemon asks for a control token: give one by --token or PEALCTL_TOKEN (%s)", doing, code.Code(st.Code()))
	}

	text := fmt.Sprintf("%s%s (%s)", doing, s.meaning(st), code.Code(st.Code()))
	if details != "" {
		text += ": " + details
	}

	return text
}

// lacksToken says whether the daemon asks for a control token, and got none.
func lacksToken(st *status.Status) bool { return reasonOf(st) == "CONTROL_TOKEN_MISSING" }

// reasonOf is the daemon's own name for what went wrong; empty where it has
// given none.
func reasonOf(st *status.Status) string {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// hint is what may help against a connection that doesn't come about. What went
// wrong is in the message alone.
func (s *session) hint(st *status.Status) string {
	said := st.Message()
	switch {
	case st.Code() != codes.Unavailable:
		return ""
	case strings.Contains(said, "certificate required"), strings.Contains(said, "bad certificate"):
		return "the daemon asks for a client certificate: give one by --cert-file and --key-file"
	case strings.Contains(said, "certificate signed by unknown authority"), strings.Contains(said, "certificate is not trusted"):
		return "give the authority's certificate by --ca-file"
	case !s.tls.wanted() && strings.Contains(said, "error reading server preface"):
		return "if the daemon speaks TLS there, use --tls or --ca-file"
	}
	return ""
}

// violations spells out the fields that a status complains of.
func violations(st *status.Status) string {
	var said []string
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
			said = append(said, text)
		}
	}

	return strings.Join(said, "; ")
}

func (s *session) meaning(st *status.Status) string {
	switch reasonOf(st) {
	case "LOG_UNAVAILABLE":
		return "the cluster can't do that now"
	case "NOT_REMOVABLE":
		return "the node is not to be removed"
	case "UNKNOWN_NODE":
		return "there is no such node"
	}
	switch st.Code() {
	case codes.InvalidArgument:
		return "the daemon doesn't accept what was given"
	case codes.Unauthenticated:
		return "the daemon doesn't know this control token; give one by --token or PEALCTL_TOKEN"
	case codes.PermissionDenied:
		return "this control token may not do that"
	case codes.Unavailable:
		return "the daemon at " + s.addr + " can't be reached, or is stopping"
	case codes.DeadlineExceeded:
		return fmt.Sprintf("the daemon at %s didn't answer within %s", s.addr, s.timeout)
	case codes.FailedPrecondition:
		return "the daemon isn't configured for that"
	case codes.Unimplemented:
		return "the daemon doesn't know this call, and may be older than this pealctl"
	case codes.ResourceExhausted:
		return "the daemon has no room for that"
	case codes.AlreadyExists:
		return "the daemon has had another message"
	case codes.Aborted:
		return "the daemon ended the call, which can be made again"
	case codes.NotFound:
		return "the daemon has no such thing"
	default:
		return "the daemon failed"
	}
}
