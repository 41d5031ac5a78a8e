package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// maxSubject is the longest user id in bytes.
const maxSubject = 255

// lastSecond is the end of the year 9999: what lies behind it is no date that
// somebody meant, and overflows time arithmetic.
const lastSecond = 253402300799

var (
	errNotUTF8 = errors.New("claims are not UTF-8")
	errTwice   = errors.New("a claim is there twice")
)

// claimError says which claim is of a type or a value that it can't be. What it
// was is not said: that would be a part of the token.
type claimError struct{ claim string }

func (e *claimError) Error() string { return "the claim " + e.claim + " is of the wrong type" }

// claims are those that matter here. It is a jwt.Claims of its own because
// encoding/json matches the fields of a struct without regard to case, so that
// a claim "Sub", which an identity provider may let people choose, would
// override "sub"; and because jwt.MapClaims takes an "exp" of 0 for none.
type claims struct {
	subject   string
	issuer    string
	audience  jwt.ClaimStrings
	expires   *jwt.NumericDate
	notBefore *jwt.NumericDate
	topics    []string
}

// UnmarshalJSON takes each claim under its exact name.
func (c *claims) UnmarshalJSON(data []byte) error {
	// Otherwise encoding/json turns every bad byte into U+FFFD, and different
	// user ids into one.
	if !utf8.Valid(data) {
		return errNotUTF8
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	// Of two members with one name, one reader takes the first and another the
	// last.
	if members(data) != len(raw) {
		return errTwice
	}
	for name, into := range map[string]any{
		"sub": &c.subject,
		"iss": &c.issuer,
		"aud": &c.audience,

		"topics": &c.topics,
	} {
		if err := take(raw, name, into); err != nil {
			return err
		}
	}
	if err := takeDate(raw, "exp", &c.expires); err != nil {
		return err
	}
	return takeDate(raw, "nbf", &c.notBefore)
}

// members counts those of an object, which is known to be valid JSON.
func members(object []byte) (n int) {
	depth, inText := 0, false
	for i := 0; i < len(object); i++ {
		switch c := object[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case c == ':' && depth == 1:
			n++
		}
	}
	return n
}

func take(raw map[string]json.RawMessage, name string, into any) error {
	value, ok := raw[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(value, into); err != nil {
		return &claimError{name}
	}
	return nil
}

func takeDate(raw map[string]json.RawMessage, name string, into **jwt.NumericDate) error {
	if _, ok := raw[name]; !ok {
		return nil
	}
	// A null would leave this as it is, and must not make a token eternal.
	seconds := math.NaN()
	if err := take(raw, name, &seconds); err != nil {
		return err
	}
	if !(seconds >= 0 && seconds <= lastSecond) {
		return &claimError{name}
	}
	*into = jwt.NewNumericDate(time.Unix(int64(seconds), 0))
	return nil
}

// Validate is called by the parser once signature and times are good.
func (c *claims) Validate() error {
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
