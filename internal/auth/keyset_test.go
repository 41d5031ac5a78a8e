package auth_test

import (
	"crypto/elliptic"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/auth"
)

// keySetFile returns the name of a file that contains set.
func keySetFile(tb testing.TB, set []byte) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// with returns key with an additional member.
func with(key json.RawMessage, member string) json.RawMessage {
	return json.RawMessage(strings.TrimSuffix(string(key), "}") + "," + member + "}")
}

// TestEd25519Names checks that keys and tokens may use "Ed25519" (RFC 9864) as well as
// "EdDSA".
func TestEd25519Names(t *testing.T) {
	pair, other := newEd25519(t), newEd25519(t)
	sources := map[string]auth.Config{"a PEM file": {PublicKeyFile: pair.file(t)}}

	for _, alg := range []jwkset.ALG{"", "EdDSA", "Ed25519"} {
		key := jwk(t, pair, "1", func(m *jwkset.JWKMarshal) { m.ALG = alg })
		sources["a key with alg "+string(alg)] = auth.Config{JWKSURL: keySetFile(t, jwks(t, key))}
	}

	for name, cfg := range sources {
		tokens := tokensOf(t, cfg)
		for _, alg := range []string{"EdDSA", "Ed25519"} {
			header := map[string]any{"alg": alg, "kid": "1"}
			id, err := tokens.Verify(sign(t, jwt.SigningMethodEdDSA, pair.private, header, aliceClaims))
			if err != nil || id.User != "alice" {
				t.Errorf("%s, a token with alg %s: %+v, %v", name, alg, id, err)
			}
			wantReason(t, tokens, sign(t, jwt.SigningMethodEdDSA, other.private, header, aliceClaims), auth.Signature)
		}

		wantReason(t, tokens, sign(t, jwt.SigningMethodEdDSA, pair.private, map[string]any{"alg": "Ed448"}, aliceClaims), auth.Algorithm)
	}

	wantReason(t, newTokens(t, auth.Config{}), sign(t, jwt.SigningMethodEdDSA, pair.private, map[string]any{"alg": "Ed25519"}, aliceClaims), auth.Algorithm)
}

// TestKeyWithInvalidCertificate checks that a key is used despite a certificate that
// can't be decoded.
func TestKeyWithInvalidCertificate(t *testing.T) {
	pair := newEC(t, elliptic.P256())
	for _, member := range []string{
		`"x5c":["not base64!"]`, `"x5c":["MIIB"]`, `"x5c":[]`, `"x5c":"MIIB"`, `"x5c":[7]`, `"x5t":"short"`, `"x5t#S256":7`,
		`"x5u":"http://127.0.0.1:1/"`, `"issuer":"https://example.com"`,
	} {
		log, logged := logger()
		tokens := tokensOf(t, auth.Config{JWKSURL: keySetFile(t, jwks(t, with(jwk(t, pair, "1", nil), member))), Logger: log})
		if id, err := tokens.Verify(sign(t, jwt.SigningMethodES256, pair.private, named("1"), aliceClaims)); err != nil || id.User != "alice" {
			t.Errorf("%s: Verify = %+v, %v", member, id, err)
		}
		if lines := logged.With("level=WARN"); len(lines) > 0 {
			t.Errorf("%s: %q", member, lines)
		}
	}
}

func TestSkippedKeysAreLoggedOncePerSet(t *testing.T) {
	good, other := newEC(t, elliptic.P384()), newEC(t, elliptic.P384())
	set := []json.RawMessage{
		jwk(t, good, "good", nil),
		json.RawMessage(`{"kty":"oct","kid":"secret","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}`),
		json.RawMessage(`{"kty":"RSA","kid":"no modulus","e":"AQAB"}`),
		json.RawMessage(`{"kty":"EC","kid":7}`),
		json.RawMessage(`"no key"`),
		jwk(t, newRSA(t, 1024), "short", nil),
		jwk(t, other, "encryption", func(m *jwkset.JWKMarshal) { m.USE = jwkset.UseEnc }),
		jwk(t, other, "signing only", func(m *jwkset.JWKMarshal) { m.KEYOPS = []jwkset.KEYOPS{jwkset.KeyOpsSign} }),
		jwk(t, other, "odd", func(m *jwkset.JWKMarshal) { m.ALG = jwkset.AlgHS256 }),
		with(jwk(t, other, "misspelled", nil), `"ALG":"ES384"`),
	}

	log, logged := logger()
	file := keySetFile(t, jwks(t, set...))
	tokens := tokensOf(t, auth.Config{JWKSURL: file, Logger: log})

	for _, line := range []struct{ kid, reason string }{
		{"kid=secret", `kty is \"oct\"; want RSA, EC or OKP`},
		{`kid="no modulus"`, `requires parameters`},
		{`kid=""`, `wrong type in \"kid\"`},
		{`kid=""`, `not a JSON object`},
		{"kid=short", "an RSA key of 1024 bits"},
		{"kid=encryption", `use is \"enc\"; want sig or none`},
		{`kid="signing only"`, "key_ops lacks verify"},
		{"kid=odd", `alg is \"HS256\"; want one of [ES384]`},
		{`kid=""`, `misspelled member \"ALG\"; want \"alg\"`},
	} {
		if len(logged.With("level=WARN", `msg="JWKS key skipped"`, line.kid, line.reason)) != 1 {
			t.Errorf("%s %s is not logged exactly once:\n%s", line.kid, line.reason, logged)
		}
	}

	logged.Take()
	tokens.Reread()

	if text := logged.Take(); text != "" {
		t.Errorf("an unchanged set is logged again:\n%s", text)
	}
	if err := os.WriteFile(file, jwks(t, set[0], set[1]), 0o600); err != nil {
		t.Fatal(err)
	}

	tokens.Reread()
	if lines := logged.With("level=WARN"); len(lines) != 1 || !strings.Contains(lines[0], "kid=secret") {
		t.Errorf("a changed set is logged as %q", lines)
	}
}

func TestManySkippedKeys(t *testing.T) {
	set := []json.RawMessage{jwk(t, newEd25519(t), "good", nil)}
	for i := range 500 {
		set = append(set, json.RawMessage(`{"kty":"oct","kid":"`+itoa(int64(i))+strings.Repeat("x", 1000)+`"}`))
	}
	log, logged := logger()
	tokensOf(t, auth.Config{JWKSURL: keySetFile(t, jwks(t, set...)), Logger: log})
	if lines := logged.With("level=WARN"); len(lines) != 11 || !strings.Contains(lines[10], "keys=490") || len(logged.String()) > 11*300 {
		t.Errorf("logged %d lines:\n%s", len(lines), logged)
	}
}

// TestAmbiguousKeySets checks that an ambiguous set is rejected as a whole.
func TestAmbiguousKeySets(t *testing.T) {
	first, second := jwk(t, newEd25519(t), "1", nil), jwk(t, newEd25519(t), "2", nil)
	for name, set := range map[string]string{
		"two lists of keys": `{"keys":[` + string(first) + `],"keys":[` + string(second) + `]}`,
		"a member twice":    `{"keys":[` + string(with(first, `"kid":"2"`)) + `]}`,
		"Latin-1":           "{\"keys\":[" + string(with(first, "\"comment\":\"\xfc\"")) + "]}",
		"a lone surrogate":  `{"keys":[{"kty":"OKP","kid":"\ud83d"},` + string(first) + `]}`,
		"Keys":              `{"Keys":[` + string(first) + `]}`,
		"trailing data":     `{"keys":[` + string(first) + `]}{}`,
		"a list":            `[` + string(first) + `]`,
	} {
		if _, err := auth.New(auth.Config{JWKSURL: keySetFile(t, []byte(set))}); err == nil || !strings.Contains(err.Error(), "auth.jwt.jwks_url") {
			t.Errorf("%s: %v", name, err)
		}
	}

	tokensOf(t, auth.Config{JWKSURL: keySetFile(t, []byte("\ufeff"+`{"keys":[`+string(first)+`],"version":2}`))})

	_, err := auth.New(auth.Config{JWKSURL: keySetFile(t, []byte(`{"keys":[{"kty":"oct","kid":"7"}]}`))})
	if err == nil || !strings.Contains(err.Error(), `the first, with kid "7", is skipped: kty is "oct"`) {
		t.Errorf("no usable key: %v", err)
	}
}
