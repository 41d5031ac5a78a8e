package auth

import (
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/strictjson"
)

// maxSubject is the maximum length of a user ID, in bytes.
const maxSubject = 255

// lastSecond is the last second of the year 9999. Later dates are mistakes, and could
// overflow time arithmetic.
const lastSecond = 253402300799

// claimError reports a claim with an invalid type or value. It doesn't contain the
// value, because that comes from the token.
type claimError struct{ claim string }

func (e *claimError) Error() string { return "claim " + e.claim + " has the wrong type" }

// claims holds the claims that matter here. There are two reasons for a custom
// jwt.Claims. First, encoding/json ignores case in names, so a claim named "Sub" would
// override "sub". Users of an identity provider may be able to set such a claim.
// Second, jwt.MapClaims treats an "exp" of 0 as missing.
type claims struct {
	invalid error // error from reading the claims; if set, all other fields are zero

	subject   string
	issuer    string
	audience  jwt.ClaimStrings
	expires   *jwt.NumericDate
	notBefore *jwt.NumericDate
	topics    []string
}

// UnmarshalJSON reads the claims. It leaves it to Validate to return any error, because
// Validate is called only after the signature has been verified. Until then, the claims
// may come from anyone.
func (c *claims) UnmarshalJSON(data []byte) error {
	read := claims{}
	if err := read.read(data); err != nil {
		read = claims{invalid: err}
	}
	*c = read
	return nil
}

// read reads each claim under its exact name. It ignores other claims, as RFC 7519 §4
// requires, but rejects claims whose names resemble a known one, because users of an
// identity provider may be able to set those.
func (c *claims) read(data []byte) error {
	known := strictjson.Schema{Members: []string{"sub", "iss", "aud", "exp", "nbf", "topics"}}
	object, err := known.Read(data)
	if err != nil {
		return err
	}

	for name, into := range map[string]any{
		"sub": &c.subject,
		"iss": &c.issuer,
		"aud": &c.audience,

		"topics": &c.topics,
	} {
		if object.Decode(name, into) != nil {
			return &claimError{name}
		}
	}

	if c.expires, err = date(object, "exp"); err != nil {
		return err
	}

	c.notBefore, err = date(object, "nbf")
	return err
}

// date returns the value of a date claim, or nil if the claim is missing.
func date(object strictjson.Object, name string) (*jwt.NumericDate, error) {
	if !object.Has(name) {
		return nil, nil //nolint:nilnil // the claim is missing
	}
	// A null must not make a token valid indefinitely.
	var seconds *float64
	if object.Decode(name, &seconds) != nil || seconds == nil || !(*seconds >= 0 && *seconds <= lastSecond) {
		return nil, &claimError{name}
	}
	return jwt.NewNumericDate(time.Unix(int64(*seconds), 0)), nil
}

// Validate returns an error if the claims are invalid. The parser calls it after it has
// checked the signature and the times.
func (c *claims) Validate() error {
	if c.invalid != nil {
		return c.invalid
	}
	if !validSubject(c.subject) {
		return jwt.ErrTokenInvalidSubject
	}
	return nil
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.expires, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.notBefore, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil } //nolint:nilnil // the claim is missing
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.subject, nil }

func validSubject(id string) bool {
	if id == "" || len(id) > maxSubject || !utf8.ValidString(id) {
		return false
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
