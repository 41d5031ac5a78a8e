package auth

import (
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/strictjson"
)

// maxSubject is the longest user id in bytes.
const maxSubject = 255

// lastSecond is the end of the year 9999: what lies behind it is no date that
// somebody meant, and overflows time arithmetic.
const lastSecond = 253402300799

// claimError reports a claim of a type or a value that it can't have. It
// doesn't have that value, which would be a part of the token.
type claimError struct{ claim string }

func (e *claimError) Error() string { return "the claim " + e.claim + " is of the wrong type" }

// claims are those that matter here. It is a jwt.Claims of its own because
// encoding/json matches the fields of a struct without regard to case, so that
// a claim "Sub", which an identity provider may let people choose, would
// override "sub"; and because jwt.MapClaims takes an "exp" of 0 for none.
type claims struct {
	invalid error // why the claims could not be read; all others are then zero

	subject   string
	issuer    string
	audience  jwt.ClaimStrings
	expires   *jwt.NumericDate
	notBefore *jwt.NumericDate
	topics    []string
}

// UnmarshalJSON reads the claims. It keeps an error for Validate, which runs
// once the signature has been verified: before that, anybody may have written
// the claims.
func (c *claims) UnmarshalJSON(data []byte) error {
	read := claims{}
	if err := read.read(data); err != nil {
		read = claims{invalid: err}
	}
	*c = read
	return nil
}

// read takes each claim under its exact name. Other claims are ignored, as RFC
// 7519 §4 requires, unless they resemble one that is read: an identity provider
// may let people choose them.
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

// date returns a claim that is a date, or nil if it is missing.
func date(object strictjson.Object, name string) (*jwt.NumericDate, error) {
	if !object.Has(name) {
		return nil, nil //nolint:nilnil // means: has none
	}
	// A null must not make a token eternal.
	var seconds *float64
	if object.Decode(name, &seconds) != nil || seconds == nil || !(*seconds >= 0 && *seconds <= lastSecond) {
		return nil, &claimError{name}
	}
	return jwt.NewNumericDate(time.Unix(int64(*seconds), 0)), nil
}

// Validate is called by the parser once signature and times are good.
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
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil } //nolint:nilnil // means: has none
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
