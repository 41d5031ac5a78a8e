package auth_test

import (
	"crypto/elliptic"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/auth"
)

// TestReplaceTokens checks that a reload keeps keys from a server that is down, and
// fails for a server that has never replied.
func TestReplaceTokens(t *testing.T) {
	key := newEC(t, elliptic.P256())
	server := newKeyServer(t, jwks(t, jwk(t, key, "1", nil)))
	before := tokensOf(t, auth.Config{JWKSURL: server.URL})
	token := sign(t, jwt.SigningMethodES256, key.private, named("1"), aliceClaims)
	none := []byte(nil)
	server.set.Store(&none)

	after := tokensOf(t, auth.Config{JWKSURL: server.URL, HMACSecret: secret, Replacing: true, Before: before})
	if id, err := after.Verify(token); err != nil || id.User != "alice" {
		t.Errorf("with the key server down: %+v, %v", id, err)
	}

	for _, replaced := range []*auth.Tokens{nil, before} {
		other := newKeyServer(t, nil)
		_, err := auth.New(auth.Config{JWKSURL: other.URL, Replacing: true, Before: replaced})
		if err == nil || !strings.Contains(err.Error(), "auth.jwt.jwks_url") {
			t.Errorf("a server that doesn't reply: %v", err)
		}
	}
}

func TestReread(t *testing.T) {
	first, second := newEC(t, elliptic.P256()), newEC(t, elliptic.P256())
	server := newKeyServer(t, jwks(t, jwk(t, first, "1", nil)))
	file := filepath.Join(t.TempDir(), "keys.json")

	write := func(p pair) {
		t.Helper()
		if err := os.WriteFile(file, jwks(t, jwk(t, p, "1", nil)), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	write(first)
	ofServer, ofFile := tokensOf(t, auth.Config{JWKSURL: server.URL}), tokensOf(t, auth.Config{JWKSURL: file})
	rotated := jwks(t, jwk(t, second, "1", nil))
	server.set.Store(&rotated)
	write(second)
	bySecond := sign(t, jwt.SigningMethodES256, second.private, named("1"), aliceClaims)

	for name, tokens := range map[string]*auth.Tokens{"server": ofServer, "file": ofFile} {
		wantReason(t, tokens, bySecond, auth.Signature)
		tokens.Reread()
		if _, err := tokens.Verify(bySecond); err != nil {
			t.Errorf("%s: after Reread: %v", name, err)
		}
		tokens.Close()
		tokens.Reread() // has no effect after Close
	}
}
