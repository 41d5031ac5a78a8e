package auth

import (
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/strictjson"
)

// ErrUnavailable says that nobody can tell now whether a token is good: its key
// may be one that could not be fetched yet.
var ErrUnavailable = errors.New("who is asking can't be told at the moment")

var (
	errCritical  = errors.New("token has critical extensions")
	errAlgorithm = errors.New("no key is for the token's algorithm")
	errNoKey     = errors.New("no key has the token's id")
)

// Reason is why a token was refused, in a word that suits a metric's label.
type Reason string

// The reasons there are.
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

// RefusedError says that a token is not good, and why. Nothing of the token is
// in it.
type RefusedError struct {
	Reason Reason

	// Claim is the one that is of the wrong type, where the token is Malformed
	// for that: sub, iss, aud, exp, nbf or topics.
	Claim string

	// malformation is the text of a token whose JSON is ambiguous.
	malformation string
}

// Error is a sentence for whoever sent the token.
func (e *RefusedError) Error() string {
	switch e.Reason {
	case TooLong:
		return fmt.Sprintf("the token is longer than %d bytes", MaxToken)
	case Malformed:
		if e.malformation != "" {
			return e.malformation
		}
		if wanted, ok := wantedOf(e.Claim); ok {
			return fmt.Sprintf("the token's %q has to be %s", e.Claim, wanted)
		}
		return "the token is not a well-formed JSON Web Token"
	case Algorithm:
		return "the token's algorithm is none that a key here is for"
	case Extension:
		return `the token's header has "crit", and no extension is understood`
	case Key:
		return `the token's "kid" is that of no key here, or it has none and needs one`
	case Signature:
		return "the token's signature does not match the key"
	case Expired:
		return "the token has expired"
	case NotYetValid:
		return "the token is not valid yet"
	case Issuer:
		return `the token's "iss" is not the issuer that is accepted`
	case Audience:
		return `the token's "aud" does not have the audience that is accepted`
	case Subject:
		return `the token's "sub" has to be a user id: 1 to 255 bytes of UTF-8 without control characters`
	}
	return "the token is not accepted"
}

func refuse(r Reason) error { return &RefusedError{Reason: r} }

// wantedOf says in words what a claim has to be.
func wantedOf(claim string) (wanted string, ok bool) {
	switch claim {
	case "sub", "iss":
		return "a text", true
	case "aud":
		return "a text or a list of texts", true
	case "topics":
		return "a list of texts", true
	case "exp", "nbf":
		return "a number of seconds since 1970, up to the year 9999", true
	}
	return "", false
}

// refusal converts an error of the parser. The token is nil, or as far as it
// was read.
func (t *Tokens) refusal(token *jwt.Token, err error) *RefusedError {
	refused := &RefusedError{Reason: t.reasonOf(token, err)}
	if wrong, ok := errors.AsType[*claimError](err); ok && refused.Reason == Malformed {
		refused.Claim = wrong.claim
	}
	if wrong, ok := errors.AsType[*strictjson.Error](err); ok && refused.Reason == Malformed {
		refused.malformation = malformation("claims are", wrong)
	}
	return refused
}

// malformation describes what is wrong with a part of a token, such as "claims
// are". It names members that are read, and nothing else that is in the token.
func malformation(part string, wrong *strictjson.Error) string {
	if wrong.Problem == strictjson.NotJSON || wrong.Problem == strictjson.NotObject {
		return "" // there is no token at all
	}
	nameless := *wrong
	nameless.Name = ""
	return fmt.Sprintf("the token's %s malformed: %v", part, &nameless)
}

// reasonOf finds the reason in what the parser says. The token is nil, or as
// far as it was read.
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

	// The library reports an algorithm that is not among the valid ones as a
	// bad signature.
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

	// Issuer and audience are required where configured, and the library says
	// of a missing one only that something is missing.
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
