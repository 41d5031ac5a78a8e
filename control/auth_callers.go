package control

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/peald/peald/control/apierror"
)

// Token is a control token, which authenticates a caller.
type Token struct {
	// Name identifies the token in errors and logs.
	Name string

	// Token is the secret.
	Token string

	// Scopes holds the token's scopes: any of ScopePublish, ScopeRead, ScopeData,
	// ScopeTokens and ScopeAdmin. An empty list grants all of them.
	Scopes []string
}

// authorizer authenticates callers and checks their scopes. It is immutable.
type authorizer struct {
	tokens []tokenDigest
	scopes scopes
}

// tokenDigest maps the digest of a token to its caller.
type tokenDigest struct {
	digest [sha256.Size]byte
	caller caller
}

// caller is an authenticated caller. A caller with an empty scopes list has all scopes.
type caller struct {
	name   string
	scopes []string
}

func newAuthorizer(tokens []Token, scopes scopes) *authorizer {
	a := &authorizer{scopes: scopes}
	for _, t := range tokens {
		a.tokens = append(a.tokens, tokenDigest{
			digest: sha256.Sum256([]byte(t.Token)),
			caller: caller{name: t.Name, scopes: slices.Clone(t.Scopes)},
		})
	}

	return a
}

// authorize returns the caller of method, or an error if the caller may not call
// method. A caller with neither a token nor a certificate has no name.
func (a *authorizer) authorize(ctx context.Context, method string) (caller, error) {
	if isHealthMethod(method) {
		return caller{}, nil
	}

	c, err := a.authenticate(ctx)
	if err != nil {
		return caller{}, err
	}

	// Reflection exposes only public information, so any caller may use it.
	if !isControlMethod(method) {
		return c, nil
	}

	return c, c.mayCall(method, a.scopes.of(method))
}

// authenticate returns the caller. A client certificate is sufficient. If the caller
// also sends a token, the token determines the name and scopes instead. This lets the
// holder of a certificate restrict a program to some of the scopes.
func (a *authorizer) authenticate(ctx context.Context) (caller, error) {
	name := certifiedName(ctx)
	if len(a.tokens) == 0 || name != "" && len(metadata.ValueFromIncomingContext(ctx, "authorization")) == 0 {
		return caller{name: name}, nil
	}

	token, err := bearerToken(ctx)
	if err != nil {
		return caller{}, err
	}

	c, ok := a.lookup(token)
	if !ok {
		return caller{}, apierror.New(codes.Unauthenticated, apierror.ReasonTokenUnknown,
			"unknown control token; send one of control.tokens")
	}

	return c, nil
}

// mayCall returns an error unless c has scope, the scope that method requires.
func (c caller) mayCall(method, scope string) error {
	if c.has(scope) {
		return nil
	}

	denied := apierror.New(codes.PermissionDenied, apierror.ReasonScopeMissing, fmt.Sprintf(
		"token %q lacks the scope %s, which %s requires; it has %s",
		c.name, scope, shortName(method), strings.Join(c.scopes, ", ")))
	denied.Metadata = map[string]string{"scope": scope}

	return denied
}

// has reports whether c's scopes include scope.
func (c caller) has(scope string) bool {
	return scope == scopeNone || len(c.scopes) == 0 || slices.Contains(c.scopes, scope) ||
		scope == ScopeTokens && slices.Contains(c.scopes, ScopeAdmin)
}

// lookup returns the caller with the given token. It compares the digests of all
// tokens, each in constant time, so that its running time reveals nothing about them.
func (a *authorizer) lookup(token string) (found caller, ok bool) {
	digest := sha256.Sum256([]byte(token))
	for _, t := range a.tokens {
		if subtle.ConstantTimeCompare(t.digest[:], digest[:]) == 1 {
			found, ok = t.caller, true
		}
	}

	return found, ok
}

// bearerToken returns the bearer token in a call's metadata.
func bearerToken(ctx context.Context) (string, error) {
	missing := func(problem string) error {
		return apierror.New(codes.Unauthenticated, apierror.ReasonTokenMissing,
			problem+"; send one of control.tokens as `authorization: Bearer TOKEN`")
	}

	values := metadata.ValueFromIncomingContext(ctx, "authorization")

	switch {
	case len(values) == 0:
		return "", missing("missing authorization")
	case len(values) > 1:
		return "", missing("more than one authorization")
	}

	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)

	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", missing("authorization is not a Bearer token")
	}

	return token, nil
}
