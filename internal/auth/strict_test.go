package auth_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/testbed"
)

// logger returns a logger and its log.
func logger() (*slog.Logger, *testbed.Log) {
	log := &testbed.Log{}
	return slog.New(slog.NewTextHandler(log, nil)), log
}

// TestInvalidResponses checks that an ambiguous response neither merges two users nor
// makes a user anonymous.
func TestInvalidResponses(t *testing.T) {
	responses := map[string]struct{ response, want string }{
		"Latin-1":                 {"{\"user_id\":\"m\xfcller\"}", `not UTF-8 in "user_id"`},
		"Latin-1 again":           {"{\"user_id\":\"m\xf6ller\"}", `not UTF-8 in "user_id"`},
		"Latin-1 topics":          {"{\"user_id\":\"a\",\"topics\":[\"b\xfccher\"]}", `not UTF-8 in "topics"`},
		"half an emoji":           {`{"user_id":"x\ud83d"}`, `lone surrogate in "user_id"`},
		"the other half":          {`{"user_id":"\udd8ax"}`, `lone surrogate in "user_id"`},
		"half an emoji in topics": {`{"user_id":"a","topics":["\ud83d"]}`, `lone surrogate in "topics"`},
		"user_id twice":           {`{"user_id":"a","user_id":"b"}`, `duplicate member "user_id"`},
		"user_id twice, escaped":  {`{"user_id":"a","user\u005fid":"b"}`, `duplicate member "user_id"`},
		"camel case":              {`{"userId":"alice"}`, `misspelled member "userId"; want "user_id"`},
		"capitals":                {`{"USER_ID":"alice"}`, `misspelled member "USER_ID"; want "user_id"`},
		"expiresAt":               {`{"user_id":"alice","expiresAt":"2999-01-01T00:00:00Z"}`, `misspelled member "expiresAt"; want "expires_at"`},
		"another member":          {`{"user":"alice"}`, `unknown member "user"`},
		"a token's member":        {`{"sub":"alice"}`, `unknown member "sub"`},
		"null":                    {`null`, `not a JSON object`},
		"a list":                  {`[{"user_id":"alice"}]`, `not a JSON object`},
		"a string":                {`"alice"`, `not a JSON object`},
		"nothing":                 {``, `not JSON`},
		"two objects":             {`{"user_id":"a"}{"user_id":"b"}`, `not JSON`},
		"a number for a user":     {`{"user_id":7}`, `user_id: want 1 to 255 bytes`},
		"a line break in a user":  {`{"user_id":"a\nb"}`, `user_id: want 1 to 255 bytes`},
		"a string for topics":     {`{"user_id":"alice","topics":"news"}`, `topics: want a list of strings`},
		"a number for an expiry":  {`{"user_id":"alice","expires_at":1764000000}`, `expires_at: want a time`},
		"a date without time":     {`{"user_id":"alice","expires_at":"2999-01-01"}`, `expires_at: want a time`},
		"UTF-16":                  {"\xff\xfe{\x00}\x00", `not UTF-8`},
		"byte order mark inside":  {"{\ufeff}", `not JSON`},
	}

	log, logged := logger()
	for name, test := range responses {
		c := newCallback(t, func(cfg *auth.CallbackConfig) { cfg.Logger = log }, respond(test.response))
		for range 3 {
			if id, err := c.Authorize(browser(t, "s", "")); !errors.Is(err, auth.ErrUnavailable) || id.User != "" || id.Topics != nil {
				t.Errorf("%s: Authorize = %+v, %v", name, id, err)
			}
		}

		lines := logged.With("level=WARN", "invalid response from auth.callback_url")
		if len(lines) != 1 || !strings.Contains(strings.ReplaceAll(lines[0], `\"`, `"`), test.want) {
			t.Errorf("%s: logged %q, want %s once", name, lines, test.want)
		}

		logged.Take()
	}
}

func TestResponseWithByteOrderMark(t *testing.T) {
	id, err := newCallback(t, nil, respond("\ufeff"+`{"user_id":"m\u00fcller \ud83e\udd8a"}`)).Authorize(browser(t, "s", ""))
	if err != nil || id.User != "müller 🦊" {
		t.Errorf("Authorize = %+v, %v", id, err)
	}
}

func TestAmbiguousTokens(t *testing.T) {
	log, logged := logger()
	tokens := newTokens(t, auth.Config{Logger: log})

	for claims, want := range map[string]string{
		`{"sub":"x\ud83d"}`:                     `the token's claims are malformed: lone surrogate in "sub"`,
		`{"sub":"x\ud83e"}`:                     `the token's claims are malformed: lone surrogate in "sub"`,
		`{"sub":"alice","topics":["\ud83d"]}`:   `the token's claims are malformed: lone surrogate in "topics"`,
		`{"sub":"alice","name":"\udd8a"}`:       `the token's claims are malformed: lone surrogate`,
		"{\"sub\":\"m\xfcller\"}":               `the token's claims are malformed: not UTF-8 in "sub"`,
		`{"sub":"alice","sub":"bob"}`:           `the token's claims are malformed: duplicate member in "sub"`,
		`{"sub":"alice","x":{"y":1,"y":2}}`:     `the token's claims are malformed: duplicate member`,
		`{"sub":"alice","Sub":"bob"}`:           `the token's claims are malformed: misspelled member; want "sub"`,
		`{"sub":"alice","Topics":["orders.7"]}`: `the token's claims are malformed: misspelled member; want "topics"`,
		`{"sub":"alice","EXP":1}`:               `the token's claims are malformed: misspelled member; want "exp"`,
	} {
		token := sign(t, jwt.SigningMethodHS256, []byte(secret), nil, claims)
		for range 3 {
			_, err := tokens.Verify(token)
			if rejected, ok := errors.AsType[*auth.RejectedError](err); !ok || rejected.Reason != auth.Malformed || err.Error() != want {
				t.Errorf("%s: %v, want %s", claims, err, want)
			}
		}
		// Attackers can forge claims without a valid signature, which must not be
		// logged.
		forged := sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("k", 32)), nil, claims)
		wantReason(t, tokens, forged, auth.Signature)
	}

	if lines := logged.With("level=WARN", "malformed claims in a signed token"); len(lines) != 9 {
		t.Errorf("%d warnings, want one per error text:\n%s", len(lines), logged)
	}
}

func TestAmbiguousHeaders(t *testing.T) {
	log, logged := logger()
	tokens := newTokens(t, auth.Config{Logger: log})

	for header, want := range map[string]string{
		`{"alg":"HS256","alg":"HS512"}`:        `the token's header is malformed: duplicate member in "alg"`,
		`{"alg":"HS256","Alg":"none"}`:         `the token's header is malformed: misspelled member; want "alg"`,
		`{"alg":"HS256","kid":"\ud83d"}`:       `the token's header is malformed: lone surrogate in "kid"`,
		"{\"alg\":\"HS256\",\"kid\":\"\xfc\"}": `the token's header is malformed: not UTF-8 in "kid"`,
		`{"alg":"HS256","KID":"a"}`:            `the token's header is malformed: misspelled member; want "kid"`,
		`{"alg":"HS256","Crit":["b64"]}`:       `the token's header is malformed: misspelled member; want "crit"`,
	} {
		text := segment(header) + "." + segment(aliceClaims)
		signature, err := jwt.SigningMethodHS256.Sign(text, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_, err := tokens.Verify(text + "." + segment(string(signature)))
			if rejected, ok := errors.AsType[*auth.RejectedError](err); !ok || rejected.Reason != auth.Malformed || err.Error() != want {
				t.Errorf("%s: %v, want %s", header, err, want)
			}
		}
	}

	if lines := logged.With("level=WARN", "malformed token header"); len(lines) != 6 {
		t.Errorf("%d warnings, want one per error text:\n%s", len(lines), logged)
	}

	id, err := tokens.Verify(sign(t, jwt.SigningMethodHS256, []byte(secret), map[string]any{"x5t": "abc", "ver": 2}, aliceClaims))
	if err != nil || id.User != "alice" {
		t.Errorf("with unknown members: %+v, %v", id, err)
	}
}

// TestOpaqueTokensAreRejected verifies tokens that have no header, such as
// those from other systems.
func TestOpaqueTokensAreRejected(t *testing.T) {
	log, logged := logger()
	tokens := newTokens(t, auth.Config{Logger: log})

	for _, token := range []string{"abc", "xx", "0123456789abcdef"} {
		const want = "the token is not a well-formed JSON Web Token"
		if _, err := tokens.Verify(token); err == nil || err.Error() != want {
			t.Errorf("Verify(%q) = %v, want %s", token, err, want)
		}
	}

	if lines := logged.With("level=WARN"); len(lines) > 0 {
		t.Errorf("opaque tokens are logged:\n%s", logged)
	}
}
