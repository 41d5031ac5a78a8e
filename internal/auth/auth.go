// Package auth signs and checks subscriber tokens: JSON Web Tokens whose "sub"
// is the user that a stream belongs to.
//
// A token is a stranger's input. The algorithm is the daemon's choice and
// never the token's, claims count only under their exact names, and no error
// repeats anything that the token says.
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

// Config says which tokens are good: those that are signed by one of the keys.
// At least one is needed. Each is good for the algorithms of its kind alone.
type Config struct {
	// HMACSecret is the key of HS256, at least MinSecret bytes; from 48 and 64
	// bytes on also that of HS384 and HS512. Mint signs with it.
	HMACSecret string

	// PublicKeyFile names a PEM file of public keys or certificates, which is
	// read again when it changes.
	PublicKeyFile string

	// JWKSURL is where a JSON Web Key Set is: a URL, or a file.
	JWKSURL string

	// Issuer, where not empty, has to be the token's "iss".
	Issuer string

	// Audience, where not empty, has to be among the token's "aud".
	Audience string

	// Proxy is for requests to JWKSURL.
	Proxy Proxy

	// Logger gets what an operator should know; nothing where nil.
	Logger *slog.Logger

	// Replacing says that streams are served already. A key set at a URL that
	// doesn't answer is then an error, and not waited for; unless it is one
	// that Before, which may be nil, has: then its keys stay good.
	Replacing bool
	Before    *Tokens
}

// Tokens signs and checks tokens. Its methods may run at the same time.
type Tokens struct {
	secret   []byte
	keys     []key     // the secret
	sources  []*source // of public keys
	methods  []string
	issuer   string
	audience string
	parser   *jwt.Parser
	log      *rejectionLog

	running context.Context //nolint:containedctx // ends with Close
	end     context.CancelFunc
	ended   sync.WaitGroup
}

// New returns the Tokens of cfg, whose Close must be called, or an error that
// names the setting at fault.
func New(cfg Config) (*Tokens, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	t := &Tokens{issuer: cfg.Issuer, audience: cfg.Audience, log: newRejectionLog(log)}
	registerEd25519()

	if cfg.HMACSecret != "" || cfg.PublicKeyFile == "" && cfg.JWKSURL == "" {
		if n := len(cfg.HMACSecret); n < MinSecret {
			return nil, fmt.Errorf("auth.jwt.hmac_secret has %d bytes, at least %d are needed (`openssl rand -hex 32` makes some)", n, MinSecret)
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

// Reread has keys of files and URLs read again now, and returns when they have
// been, or could not be.
func (t *Tokens) Reread() {
	for _, s := range t.sources {
		s.reread(t.running)
	}
}

// Close ends the goroutines that read keys again.
func (t *Tokens) Close() {
	t.end()
	t.ended.Wait()
}

// Reads returns how often public keys were read since the start, and how often
// they could not be.
func (t *Tokens) Reads() (good, failed int64) {
	for _, s := range t.sources {
		good += s.reads.good.Load()
		failed += s.reads.failed.Load()
	}
	return good, failed
}

// Verify checks token and returns what it says. Its error is a *RefusedError,
// whose text may be shown to whoever sent the token, or ErrUnavailable.
func (t *Tokens) Verify(token string) (Identity, error) {
	if len(token) > MaxToken {
		return Identity{}, refuse(TooLong)
	}
	// The base64 decoder skips line breaks, so that one token would have many
	// spellings.
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return Identity{}, refuse(Malformed)
	}

	if err := checkHeader(token); err != nil {
		t.log.warn("malformed header of a token", err)
		return Identity{}, err
	}

	var c claims
	parsed, err := t.parser.ParseWithClaims(token, &c, t.key)
	if errors.Is(err, ErrUnavailable) {
		return Identity{}, ErrUnavailable
	}

	if err != nil {
		refused := t.refusal(parsed, err)
		if refused.Reason == Malformed && c.invalid != nil && errors.Is(err, c.invalid) {
			t.log.warn("malformed claims in a signed token", refused)
		}
		return Identity{}, refused
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
	if t.secret == nil {
		return "", time.Time{}, errors.New("signing a token: there is no auth.jwt.hmac_secret to sign with")
	}
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

// key finds the keys that may have signed token.
func (t *Tokens) key(token *jwt.Token) (any, error) {
	// RFC 7515 §4.1.11 forbids to accept a token that names extensions which
	// the reader does not understand, and the library ignores it.
	if _, ok := token.Header["crit"]; ok {
		return nil, errCritical
	}

	id, ok := token.Header["kid"].(string)
	if _, given := token.Header["kid"]; given && !ok {
		return nil, jwt.ErrTokenMalformed
	}

	found, forAlgorithm := fitting(t.keys, token.Method.Alg(), id)
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

// find returns the keys that may have signed a token, and whether any is for
// its algorithm. For a key that is not known it looks whether there is a new
// one; if that can't be told now, it is ErrUnavailable and no refusal, which
// would be for good.
func (s *source) find(ctx context.Context, alg, id string) (found []jwt.VerificationKey, forAlgorithm bool, _ error) {
	if !slices.Contains(asymmetric(), alg) {
		return nil, false, nil
	}

	if keys := s.keys.Load(); keys != nil {
		found, forAlgorithm = fitting(*keys, alg, id)
		if len(found) > 0 || s.unknown == nil || id == "" {
			return found, forAlgorithm, nil
		}
	}

	if !s.renew(ctx) {
		return nil, forAlgorithm, ErrUnavailable
	}

	found, forAlgorithm = fitting(*s.keys.Load(), alg, id)
	return found, forAlgorithm, nil
}
