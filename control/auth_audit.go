package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// authorize is like [authorizer.authorize], but also logs unauthenticated calls.
func (s *Service) authorize(ctx context.Context, method string) (caller, error) {
	c, err := s.reloadable.Load().authorizer.authorize(ctx, method)
	if rejected, ok := errors.AsType[*apierror.Error](err); ok && rejected.Code == codes.Unauthenticated {
		s.rejections.warn(ctx, s.log, method, rejected)
	}

	return c, err
}

// debugPath is the path of a request to a guarded handler.
type debugPath string

// audit logs a call, whether or not it succeeded, if it requires ScopeAdmin,
// ScopeTokens or ScopeData, or clears retained values. It skips unauthenticated calls,
// because they could fill the log. Calls that require ScopeTokens or ScopeData are
// logged at debug level, because a backend may make them for each login or page. If the
// caller lacks the scope, they are logged at info level like all other calls.
func (s *Service) audit(ctx context.Context, c caller, method string, req any, err error) {
	scope := s.scopes.of(method)
	frequent := scope == ScopeTokens || scope == ScopeData
	if !isControlMethod(method) || scope != ScopeAdmin && !frequent && method != pealv1.ControlService_ClearRetained_FullMethodName {
		return
	}

	code := status.Code(err)
	if code == codes.Unauthenticated {
		return
	}

	level := slog.LevelInfo
	if frequent && code != codes.PermissionDenied {
		level = slog.LevelDebug
	}

	if !s.log.Enabled(ctx, level) {
		return
	}

	args := []any{"caller", c.name, "method", shortName(method), "code", codeName(code), "peer", peerOf(ctx)}
	args = append(args, auditArgs(req)...)
	s.log.Log(ctx, level, "audit", withTrace(ctx, args)...)
}

// appendTopic appends topic to the attributes of a log line if it is valid.
func appendTopic(args []any, topic string) []any {
	if broker.ValidTopic(topic) != nil {
		return args
	}

	return append(args, "topic", topic)
}

// auditArgs returns the attributes that describe req in the audit log.
func auditArgs(req any) (args []any) {
	if r, ok := req.(interface{ GetUserId() string }); ok && broker.ValidUserID(r.GetUserId()) == nil {
		args = append(args, "user", r.GetUserId())
	}

	switch r := req.(type) {
	case *pealv1.ListMessagesRequest:
		args = appendTopic(args, r.GetTopic())
	case *pealv1.ClearRetainedRequest:
		args = appendTopic(args, r.GetTopic())
		if r.GetAll() {
			args = append(args, "all", true)
		}
	}

	if r, ok := req.(*pealv1.RemoveNodeRequest); ok {
		args = append(args, "node", fmt.Sprintf("%.80s", r.GetName()))
	}

	if r, ok := req.(*pealv1.TestHookRequest); ok {
		// The rest of the URL may be secret.
		if u, err := url.Parse(r.GetUrl()); err == nil && u.Host != "" {
			args = append(args, "hook", fmt.Sprintf("%.80s", u.Host))
		}
	}

	if path, ok := req.(debugPath); ok {
		args = append(args, "path", fmt.Sprintf("%.80s", path))
	}

	return args
}
