// Package auth authenticates streams. It signs and verifies subscriber tokens, or asks
// the application through a callback. A subscriber token is a JSON Web Token whose
// "sub" claim identifies a stream's user.
//
// A token is untrusted input. The key, not the token, determines which algorithms are
// accepted. Claims are read only under their exact names, and errors never repeat
// anything from the token.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxToken is the maximum length of a token, in bytes.
	MaxToken = 8 << 10

	// MinSecret is the minimum length of a secret, in bytes. RFC 7518 §3.2 requires a
	// key that is at least as long as the hash.
	MinSecret = 32

	// Leeway is the tolerated difference between the clocks of the daemon and of a
	// token's signer.
	Leeway = 5 * time.Second
)

// Identity is an authenticated user and what the user may subscribe to.
type Identity struct {
	// User is the user ID. It is empty for an anonymous stream.
	User string

	// Topics holds the topics and patterns that the user may subscribe to.
	Topics []string

	// Expires is the time from which Verify rejects the token: its "exp" claim plus
	// Leeway. It is zero for a token that never expires.
	Expires time.Time
}

// Config configures Tokens. At least one source of keys is required. A token must be
// signed with one of the keys, using an algorithm for that kind of key.
type Config struct {
	// HMACSecret is the key for HS256 and must have at least MinSecret bytes. With at
	// least 48 bytes, it is also used for HS384; with at least 64, for HS512. Mint
	// signs with it.
	HMACSecret string

	// PublicKeyFile is the name of a PEM file that contains public keys or
	// certificates. It is read again when it changes.
	PublicKeyFile string

	// JWKSURL is the URL or the file name of a JSON Web Key Set.
	JWKSURL string

	// Issuer, if not empty, must be the value of a token's "iss" claim.
	Issuer string

	// Audience, if not empty, must be included in a token's "aud" claim.
	Audience string

	// Proxy selects the proxy for requests to JWKSURL.
	Proxy Proxy

	// Logger receives log messages for the operator. If nil, nothing is logged.
	Logger *slog.Logger

	// Replacing is true for a reload. In a reload, New fails if a key set can't be
	// fetched, unless Before has the same URL. In that case, New keeps the keys from
	// Before. Before may be nil. If Replacing is false, New succeeds, and the fetch is
	// retried.
	Replacing bool
	Before    *Tokens
}

// Tokens signs and verifies tokens. Its methods are safe for concurrent use.
type Tokens struct {
	secret   []byte
	keys     []key     // the secret
	sources  []*source // of public keys
	methods  []string
	issuer   string
	audience string
	parser   *jwt.Parser
	log      *rejectionLog

	running context.Context //nolint:containedctx // canceled by Close
	end     context.CancelFunc
	ended   sync.WaitGroup
}

// New returns Tokens for cfg. The caller must close them. An error names the setting
// that caused it.
func New(cfg Config) (*Tokens, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	t := &Tokens{issuer: cfg.Issuer, audience: cfg.Audience, log: newRejectionLog(log)}
	registerEd25519()

	if cfg.HMACSecret != "" || cfg.PublicKeyFile == "" && cfg.JWKSURL == "" {
		if n := len(cfg.HMACSecret); n < MinSecret {
			return nil, fmt.Errorf("auth.jwt.hmac_secret: %d bytes; want at least %d, such as from openssl rand -hex 32", n, MinSecret)
		}
		t.secret = []byte(cfg.HMACSecret)
		k := secretKey(t.secret)
		t.keys = []key{k}
		t.methods = append(t.methods, k.algorithms...)
	}

	t.running, t.end = context.WithCancel(context.Background())
	if err := t.openSources(cfg, log); err != nil {
		t.end()
		return nil, err
	}

	if len(t.sources) > 0 {
		t.methods = append(t.methods, asymmetric()...)
	}

	opts := []jwt.ParserOption{
		jwt.WithValidMethods(t.methods),
		jwt.WithLeeway(Leeway),
		jwt.WithStrictDecoding(),
	}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		opts = append(opts, jwt.WithAudience(cfg.Audience))
	}

	t.parser = jwt.NewParser(opts...)
	for _, s := range t.sources {
		t.ended.Go(func() { s.run(t.running) })
	}

	return t, nil
}

func (t *Tokens) openSources(cfg Config, log *slog.Logger) error {
	if cfg.PublicKeyFile != "" {
		s, err := fileSource("auth.jwt.public_key_file", cfg.PublicKeyFile, parsePEM, log)
		if err != nil {
			return err
		}
		t.sources = append(t.sources, s)
	}

	if cfg.JWKSURL != "" {
		s, err := jwksSource(t.running, cfg, log)
		if err != nil {
			return err
		}
		t.sources = append(t.sources, s)
	}

	return nil
}

// Reread reads the keys from files and URLs again and waits for the result.
func (t *Tokens) Reread() {
	for _, s := range t.sources {
		s.reread(t.running)
	}
}

// Close stops the goroutines that read keys.
func (t *Tokens) Close() {
	t.end()
	t.ended.Wait()
}

// Reads returns how often reading public keys has succeeded and failed so far.
func (t *Tokens) Reads() (good, failed int64) {
	for _, s := range t.sources {
		good += s.reads.good.Load()
		failed += s.reads.failed.Load()
	}
	return good, failed
}

// Waits reports whether Verify may have to wait for keys to be read.
func (t *Tokens) Waits() bool { return len(t.sources) > 0 }

// Verify verifies token and returns its identity. The error is ErrUnavailable or a
// *RejectedError, whose message may be shown to the token's sender.
func (t *Tokens) Verify(token string) (Identity, error) {
	if len(token) > MaxToken {
		return Identity{}, rejectFor(TooLong)
	}
	// The base64 decoder ignores line breaks, so there would be several spellings of
	// the same token.
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return Identity{}, rejectFor(Malformed)
	}

	if err := checkHeader(token); err != nil {
		t.log.warn("malformed token header", err)
		return Identity{}, err
	}

	var c claims
	parsed, err := t.parser.ParseWithClaims(token, &c, t.key)
	if errors.Is(err, ErrUnavailable) {
		return Identity{}, ErrUnavailable
	}

	if err != nil {
		rejected := t.rejection(parsed, err)
		if rejected.Reason == Malformed && c.invalid != nil && errors.Is(err, c.invalid) {
			t.log.warn("malformed claims in a signed token", rejected)
		}
		return Identity{}, rejected
	}

	id := Identity{User: c.subject, Topics: c.topics}
	if c.expires != nil {
		id.Expires = c.expires.Add(Leeway)
	}

	return id, nil
}

// Mint signs a token that allows user to subscribe to topics, which may include
// patterns. The token is valid for ttl, rounded up to end on a whole second because
// "exp" has no fractions. Mint also returns the time at which the token expires.
func (t *Tokens) Mint(user string, topics []string, ttl time.Duration) (token string, expires time.Time, err error) {
	if t.secret == nil {
		return "", time.Time{}, errors.New("sign a token: auth.jwt.hmac_secret is not set")
	}
	if !validSubject(user) {
		return "", time.Time{}, errors.New("sign a token: invalid user id; want 1 to 255 bytes of UTF-8 without control characters")
	}
	if ttl <= 0 {
		return "", time.Time{}, fmt.Errorf("sign a token: invalid lifetime %s; want a positive duration", ttl)
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
		return "", time.Time{}, fmt.Errorf("sign a token: %w", err)
	}

	return token, expires, nil
}

// minted holds the claims of a token signed by Mint.
type minted struct {
	jwt.RegisteredClaims

	Topics []string `json:"topics,omitempty"`
}

// key returns the keys that may have signed token.
func (t *Tokens) key(token *jwt.Token) (any, error) {
	// RFC 7515 §4.1.11 forbids accepting a token with critical extensions that the
	// recipient doesn't understand. The library ignores "crit".
	if _, ok := token.Header["crit"]; ok {
		return nil, errCritical
	}

	id, ok := token.Header["kid"].(string)
	if _, given := token.Header["kid"]; given && !ok {
		return nil, jwt.ErrTokenMalformed
	}

	found, forAlgorithm := candidates(t.keys, token.Method.Alg(), id)
	for _, s := range t.sources {
		more, ok, err := s.find(t.running, token.Method.Alg(), id)
		if err != nil && len(found) == 0 {
			return nil, err
		}
		found = append(found, more...)
		forAlgorithm = forAlgorithm || ok
	}

	switch {
	case len(found) == 0 && !forAlgorithm:
		return nil, errAlgorithm
	case len(found) == 0:
		return nil, errNoKey
	}

	return jwt.VerificationKeySet{Keys: found}, nil
}

// find returns the keys that may have signed a token, and reports whether any key
// matches the token's algorithm. If the key ID is unknown, find reads the keys again.
// If that isn't possible at the moment, it returns ErrUnavailable, because a rejection
// would be permanent.
func (s *source) find(ctx context.Context, alg, id string) (found []jwt.VerificationKey, forAlgorithm bool, _ error) {
	if !slices.Contains(asymmetric(), alg) {
		return nil, false, nil
	}

	if keys := s.keys.Load(); keys != nil {
		found, forAlgorithm = candidates(*keys, alg, id)
		if len(found) > 0 || s.unknown == nil || id == "" {
			return found, forAlgorithm, nil
		}
	}

	if !s.refresh(ctx) {
		return nil, forAlgorithm, ErrUnavailable
	}

	found, forAlgorithm = candidates(*s.keys.Load(), alg, id)
	return found, forAlgorithm, nil
}
