package control

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// What a token can be good for.
const (
	// ScopePublish is to send events.
	ScopePublish = "publish"
	// ScopeRead is to see users, topics and figures.
	ScopeRead = "read"
	// ScopeTokens is to sign subscriber tokens.
	ScopeTokens = "tokens"
	// ScopeAdmin is all else: to end streams, to see what others send. It
	// includes ScopeTokens.
	ScopeAdmin = "admin"

	// scopeNone is what any token is good for.
	scopeNone = ""
)

// scopeOf is the scope that a method needs. A method that is missing here needs
// ScopeAdmin, so that a new one is not open by oversight.
func scopeOf(method string) string {
	switch method {
	case pealv1.ControlService_Broadcast_FullMethodName,
		pealv1.ControlService_SendToUser_FullMethodName,
		pealv1.ControlService_Publish_FullMethodName,
		pealv1.ControlService_PublishStream_FullMethodName:
		return ScopePublish
	case pealv1.ControlService_ListUsers_FullMethodName,
		pealv1.ControlService_ListTopics_FullMethodName,
		pealv1.ControlService_WatchConnections_FullMethodName,
		pealv1.ControlService_Stats_FullMethodName,
		guardedMetrics:
		return ScopeRead
	case pealv1.ControlService_CreateToken_FullMethodName:
		return ScopeTokens
	case pealv1.ControlService_WhoAmI_FullMethodName:
		return scopeNone
	}
	return ScopeAdmin
}

// access decides who may call what.
type access struct{ callers []caller }

// caller is somebody with a name. No scopes means all.
type caller struct {
	name   string
	digest [sha256.Size]byte
	scopes []string
}

func newAccess(tokens []Token) *access {
	a := &access{}
	for _, t := range tokens {
		a.callers = append(a.callers, caller{
			name:   t.Name,
			digest: sha256.Sum256([]byte(t.Token)),
			scopes: slices.Clone(t.Scopes),
		})
	}
	return a
}

// check returns who calls method, or why they may not. Whoever is let in
// without having shown a token or a certificate has no name.
func (a *access) check(ctx context.Context, method string) (caller, error) {
	if strings.HasPrefix(method, "/"+healthv1.Health_ServiceDesc.ServiceName+"/") {
		return caller{}, nil
	}
	c, err := a.identify(ctx)
	if err != nil {
		return caller{}, err
	}
	return c, c.mayCall(method)
}

// identify is who calls. A certificate says it as well as a token does; who
// shows both has the token's name and scopes, so that what holds the
// certificate can hand out less than all.
func (a *access) identify(ctx context.Context) (caller, error) {
	name := certified(ctx)
	if len(a.callers) == 0 || name != "" && len(metadata.ValueFromIncomingContext(ctx, "authorization")) == 0 {
		return caller{name: name}, nil
	}
	token, err := presented(ctx)
	if err != nil {
		return caller{}, err
	}
	c, ok := a.find(token)
	if !ok {
		return caller{}, refuse(codes.Unauthenticated, reasonTokenUnknown, "the token in authorization is none of control.tokens")
	}
	return c, nil
}

// mayCall returns nil if c's scopes are enough for method.
func (c caller) mayCall(method string) error {
	// Reflection tells what is public anyway; any caller may have it.
	if !strings.HasPrefix(method, "/"+pealv1.ControlService_ServiceDesc.ServiceName+"/") {
		return nil
	}
	if scope := scopeOf(method); !c.has(scope) {
		denied := refuse(codes.PermissionDenied, reasonScopeMissing, fmt.Sprintf(
			"the token %q is good for %s, and %s needs %s",
			c.name, strings.Join(c.scopes, ", "), shortName(method), scope))
		denied.about = map[string]string{"scope": scope}
		return denied
	}
	return nil
}

// has reports whether c's scopes include scope.
func (c caller) has(scope string) bool {
	return scope == scopeNone || len(c.scopes) == 0 || slices.Contains(c.scopes, scope) ||
		scope == ScopeTokens && slices.Contains(c.scopes, ScopeAdmin)
}

// find compares digests, all of them and each in constant time, so that the
// time it takes tells nothing of the tokens.
func (a *access) find(token string) (found caller, ok bool) {
	digest := sha256.Sum256([]byte(token))
	for _, c := range a.callers {
		if subtle.ConstantTimeCompare(c.digest[:], digest[:]) == 1 {
			found, ok = c, true
		}
	}
	return found, ok
}

// presented is the token that came with a call.
func presented(ctx context.Context) (string, error) {
	const how = "send one of control.tokens as `authorization: Bearer TOKEN`"
	missing := func(what string) error {
		return refuse(codes.Unauthenticated, reasonTokenMissing, what+": "+how)
	}
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch {
	case len(values) == 0:
		return "", missing("the call has no authorization")
	case len(values) > 1:
		return "", missing("the call has more than one authorization")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", missing("the call's authorization is no Bearer token")
	}
	return token, nil
}
