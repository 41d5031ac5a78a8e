// Package auth signs and checks subscriber tokens: JSON Web Tokens whose "sub"
// is the user that a stream belongs to.
//
// A token is a stranger's input. The algorithm is the daemon's choice and
// never the token's, claims count only under their exact names, and no error
// repeats anything that the token says.
package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxToken is the longest token in bytes that Verify looks at.
	MaxToken = 8 << 10

	// MinSecret is the shortest secret in bytes: RFC 7518 §3.2 wants a key
	// no shorter than the output of HS256's hash.
	MinSecret = 32

	// Leeway is how far the clock of whoever signs tokens may be off.
	Leeway = 5 * time.Second
)

// Identity is what a good token says.
type Identity struct {
	// User is the token's subject.
	User string

	// Topics are the topics and patterns that the token's bearer may subscribe
	// to: its "topics".
	Topics []string

	// Expires is when Verify begins to refuse the token: its "exp" and the
	// leeway. It is zero for a token that never ends.
	Expires time.Time
}

// Config says which tokens are good.
type Config struct {
	// HMACSecret is the key of HS256, at least MinSecret bytes.
	HMACSecret string

	// Issuer, where not empty, has to be the token's "iss".
	Issuer string

	// Audience, where not empty, has to be among the token's "aud".
	Audience string
}

// Tokens signs and checks tokens. Its methods may run at the same time.
type Tokens struct {
	secret   []byte
	issuer   string
	audience string
	parser   *jwt.Parser
}

// New returns the Tokens of cfg, or an error that names the setting at fault.
func New(cfg Config) (*Tokens, error) {
	if n := len(cfg.HMACSecret); n < MinSecret {
		return nil, fmt.Errorf("auth.jwt.hmac_secret has %d bytes, at least %d are needed (`openssl rand -hex 32` makes some)", n, MinSecret)
	}
	opts := []jwt.ParserOption{
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithLeeway(Leeway),
		jwt.WithStrictDecoding(),
	}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		opts = append(opts, jwt.WithAudience(cfg.Audience))
	}
	return &Tokens{
		secret:   []byte(cfg.HMACSecret),
		issuer:   cfg.Issuer,
		audience: cfg.Audience,
		parser:   jwt.NewParser(opts...),
	}, nil
}

// Verify checks token and returns what it says. Its error is a *RefusedError,
// whose text may be shown to whoever sent the token.
func (t *Tokens) Verify(token string) (Identity, error) {
	if len(token) > MaxToken {
		return Identity{}, refuse(TooLong)
	}
	// The base64 decoder skips line breaks, so that one token would have many
	// spellings.
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return Identity{}, refuse(Malformed)
	}
	var c claims
	parsed, err := t.parser.ParseWithClaims(token, &c, t.key)
	if err != nil {
		return Identity{}, refuse(t.reasonOf(parsed, err))
	}
	id := Identity{User: c.subject, Topics: c.topics}
	if c.expires != nil {
		id.Expires = c.expires.Add(Leeway)
	}
	return id, nil
}

// Mint signs a token for user that allows topics, which may be patterns, and is
// good for ttl, counted up to the next full second because "exp" has no
// fractions. It also returns that "exp".
func (t *Tokens) Mint(user string, topics []string, ttl time.Duration) (token string, expires time.Time, err error) {
	if !validSubject(user) {
		return "", time.Time{}, errors.New("signing a token: the user id has to be 1 to 255 bytes of UTF-8 without control characters")
	}
	if ttl <= 0 {
		return "", time.Time{}, fmt.Errorf("signing a token: a lifetime of %s is none", ttl)
	}
	now := time.Now()
	expires = now.Add(ttl + time.Second - time.Nanosecond).Truncate(time.Second)
	c := minted{Topics: topics}
	c.RegisteredClaims = jwt.RegisteredClaims{
		Subject:   user,
		Issuer:    t.issuer,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(expires),
	}
	if t.audience != "" {
		c.Audience = jwt.ClaimStrings{t.audience}
	}
	token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(t.secret)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("signing a token: %w", err)
	}
	return token, expires, nil
}

// minted are the claims of a token that Mint signs.
type minted struct {
	jwt.RegisteredClaims

	Topics []string `json:"topics,omitempty"`
}

// key refuses "crit": RFC 7515 §4.1.11 forbids to accept a token that names
// extensions which the reader does not understand, and the library ignores it.
func (t *Tokens) key(token *jwt.Token) (any, error) {
	if _, ok := token.Header["crit"]; ok {
		return nil, errCritical
	}
	return t.secret, nil
}
