package auth

import (
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/strictjson"
)

// ErrUnavailable means that the user can't be determined at the moment, for example
// because a token's key couldn't be fetched.
var ErrUnavailable = errors.New("authentication is temporarily unavailable")

var (
	errCritical  = errors.New("token has critical extensions")
	errAlgorithm = errors.New("no key for the algorithm of the token")
	errNoKey     = errors.New("no key with the ID in the token")
)

// Reason is the reason why a token was rejected. It is used as a metric label.
type Reason string

// Reasons for rejecting a token.
const (
	TooLong     Reason = "too_long"
	Malformed   Reason = "malformed"
	Algorithm   Reason = "algorithm"
	Extension   Reason = "extension"
	Key         Reason = "key"
	Signature   Reason = "signature"
	Expired     Reason = "expired"
	NotYetValid Reason = "not_yet_valid"
	Issuer      Reason = "issuer"
	Audience    Reason = "audience"
	Subject     Reason = "subject"
)

// RejectedError reports a rejected token. It doesn't contain anything from the token.
type RejectedError struct {
	Reason Reason

	// Claim is the name of the claim with the wrong type, if that is why the token is
	// Malformed: sub, iss, aud, exp, nbf or topics.
	Claim string

	// malformation is the message for a token with ambiguous JSON.
	malformation string
}

// Error returns a message for the token's sender.
func (e *RejectedError) Error() string {
	switch e.Reason {
	case TooLong:
		return fmt.Sprintf("the token is longer than %d bytes", MaxToken)
	case Malformed:
		if e.malformation != "" {
			return e.malformation
		}
		if want, ok := claimType(e.Claim); ok {
			return fmt.Sprintf("the token's %q must be %s", e.Claim, want)
		}
		return "the token is not a well-formed JSON Web Token"
	case Algorithm:
		return "no key is configured for the token's algorithm"
	case Extension:
		return `the token's header has "crit"; no extensions are supported`
	case Key:
		return `the token's "kid" matches no key, or is required but missing`
	case Signature:
		return "the token's signature does not match the key"
	case Expired:
		return "the token has expired"
	case NotYetValid:
		return "the token is not valid yet"
	case Issuer:
		return `the token's "iss" is not the configured issuer`
	case Audience:
		return `the token's "aud" does not include the configured audience`
	case Subject:
		return `the token's "sub" must be a user id: 1 to 255 bytes of UTF-8 without control characters`
	}
	return "the token is not accepted"
}

func rejectFor(r Reason) error { return &RejectedError{Reason: r} }

// claimType describes the type that a claim must have.
func claimType(claim string) (want string, ok bool) {
	switch claim {
	case "sub", "iss":
		return "a string", true
	case "aud":
		return "a string or a list of strings", true
	case "topics":
		return "a list of strings", true
	case "exp", "nbf":
		return "a number of seconds since 1970, up to the year 9999", true
	}
	return "", false
}

// rejection converts an error from the parser to a RejectedError. Token may be nil or
// only partially parsed.
func (t *Tokens) rejection(token *jwt.Token, err error) *RejectedError {
	rejected := &RejectedError{Reason: t.reasonOf(token, err)}
	if wrong, ok := errors.AsType[*claimError](err); ok && rejected.Reason == Malformed {
		rejected.Claim = wrong.claim
	}
	if wrong, ok := errors.AsType[*strictjson.Error](err); ok && rejected.Reason == Malformed {
		rejected.malformation = malformation("claims are", wrong)
	}
	return rejected
}

// malformation describes a problem in a part of a token. Part is the part with its
// verb, such as "claims are". Apart from the names of known members, the description
// doesn't contain anything from the token.
func malformation(part string, wrong *strictjson.Error) string {
	if wrong.Problem == strictjson.NotJSON || wrong.Problem == strictjson.NotObject {
		return "" // not a token at all
	}
	nameless := *wrong
	nameless.Name = ""
	return fmt.Sprintf("the token's %s malformed: %v", part, &nameless)
}

// reasonOf derives the reason from the parser's error. Token may be nil or only
// partially parsed.
func (t *Tokens) reasonOf(token *jwt.Token, err error) Reason {
	if _, ok := errors.AsType[*strictjson.Error](err); ok {
		return Malformed
	}
	if _, ok := errors.AsType[*claimError](err); ok {
		return Malformed
	}

	switch {
	case errors.Is(err, errCritical):
		return Extension
	case errors.Is(err, jwt.ErrTokenMalformed):
		return Malformed
	case errors.Is(err, errAlgorithm):
		return Algorithm
	case errors.Is(err, errNoKey):
		return Key

	// If an algorithm isn't accepted, the library reports an invalid signature.
	case token != nil && !t.accepts(token.Header["alg"]):
		return Algorithm
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return Signature
	case errors.Is(err, jwt.ErrTokenExpired):
		return Expired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return NotYetValid
	case errors.Is(err, jwt.ErrTokenInvalidSubject):
		return Subject
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return Audience
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return Issuer

	// The issuer and the audience are required if they are configured. If one is
	// missing, the library doesn't report which one.
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		if c, ok := token.Claims.(*claims); ok && c.issuer == "" && t.issuer != "" {
			return Issuer
		}
		return Audience
	}

	return Malformed
}

func (t *Tokens) accepts(alg any) bool {
	name, ok := alg.(string)
	return ok && slices.Contains(t.methods, canonical(name))
}
