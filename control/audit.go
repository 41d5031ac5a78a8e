package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	// refusalLines is how many refused calls a second are logged, and
	// refusalBurst how many at once: whoever guesses tokens is to be seen, and
	// not to fill the disk.
	refusalLines = 1
	refusalBurst = 5
)

// refusals logs calls by callers whom nobody knows.
type refusals struct {
	lines    *rate.Limiter
	unlogged atomic.Int64 // since the last line
}

func newRefusals() *refusals { return &refusals{lines: rate.NewLimiter(refusalLines, refusalBurst)} }

// admit is [access.check], and tells the log whom it does not know.
func (s *Service) admit(ctx context.Context, method string) (caller, error) {
	c, err := s.rules.Load().access.check(ctx, method)
	if refused, ok := errors.AsType[*refusedError](err); ok && refused.code == codes.Unauthenticated {
		if s.refusals.lines.Allow() {
			s.log.WarnContext(ctx, "a control call was refused", withTrace(ctx, []any{"reason", refused.reason,
				"method", shortName(method), "peer", peerOf(ctx), "unlogged", s.refusals.unlogged.Swap(0)})...)
		} else {
			s.refusals.unlogged.Add(1)
		}
	}
	return c, err
}

// audit leaves a line of a call that needs ScopeAdmin or ScopeTokens, done or
// not. Callers who are unknown are not in it: they would be free to fill the
// log. A backend may create a token at each login, so that is a line at debug,
// unless the caller lacks the scope.
func (s *Service) audit(ctx context.Context, c caller, method string, req any, err error) {
	scope := scopeOf(method)
	if !strings.HasPrefix(method, "/"+pealv1.ControlService_ServiceDesc.ServiceName+"/") || scope != ScopeAdmin && scope != ScopeTokens {
		return
	}
	code := status.Code(err)
	if code == codes.Unauthenticated {
		return
	}
	level := slog.LevelInfo
	if scope == ScopeTokens && code != codes.PermissionDenied {
		level = slog.LevelDebug
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	args := []any{"caller", c.name, "method", shortName(method), "code", codeName(code), "peer", peerOf(ctx)}
	if about, ok := req.(interface{ GetUserId() string }); ok && broker.ValidUserID(about.GetUserId()) == nil {
		args = append(args, "user", about.GetUserId())
	}
	if about, ok := req.(*pealv1.RemoveNodeRequest); ok {
		args = append(args, "node", fmt.Sprintf("%.80s", about.GetName()))
	}
	if path, ok := req.(guardedPath); ok {
		args = append(args, "path", fmt.Sprintf("%.80s", path))
	}
	s.log.Log(ctx, level, "audit", withTrace(ctx, args)...)
}

func shortName(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }

// peerOf is the address of the caller's socket; of REST calls, that of the HTTP
// client's, without its port. Those who come by a socket file have none.
func peerOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	// The gateway says it in a header of this name. Nobody else is believed.
	from := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for")
	switch {
	case isInside(p.Addr) && len(from) > 0:
		return from[0]
	case isInside(p.Addr), p.Addr.Network() == "unix":
		return "unix"
	}
	return p.Addr.String()
}

// transportOf is the way that a call came.
func transportOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil && isInside(p.Addr) {
		return "rest"
	}
	return "grpc"
}

// isInside says whether addr is that of the connection inside the process.
func isInside(addr net.Addr) bool { return addr.Network() == "bufconn" }
