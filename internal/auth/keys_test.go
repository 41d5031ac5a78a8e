package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/auth"
)

const aliceClaims = `{"sub":"alice"}`

// pair is a private key, with its public key in PEM format.
type pair struct {
	private crypto.Signer
	public  []byte
}

func newPair(tb testing.TB, private crypto.Signer, err error) pair {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return pair{private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

func newRSA(tb testing.TB, bits int) pair {
	tb.Helper()
	private, err := rsa.GenerateKey(rand.Reader, bits)
	return newPair(tb, private, err)
}

func newEC(tb testing.TB, curve elliptic.Curve) pair {
	tb.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	return newPair(tb, private, err)
}

func newEd25519(tb testing.TB) pair {
	tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return newPair(tb, private, err)
}

func (p pair) file(tb testing.TB) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "public.pem")
	if err := os.WriteFile(name, p.public, 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// tokensOf returns Tokens for cfg. Unlike newTokens it doesn't add a secret.
func tokensOf(tb testing.TB, cfg auth.Config) *auth.Tokens {
	tb.Helper()
	tokens, err := auth.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(tokens.Close)
	return tokens
}

func wantReason(tb testing.TB, tokens *auth.Tokens, token string, want auth.Reason) {
	tb.Helper()
	id, err := tokens.Verify(token)
	if rejected, ok := errors.AsType[*auth.RejectedError](err); !ok || rejected.Reason != want {
		tb.Errorf("Verify = %+v, %v; want a rejection for %s", id, err, want)
	}
}

// TestAlgorithms checks that a key is used only for the algorithms of its kind.
func TestAlgorithms(t *testing.T) {
	keys := map[string]pair{
		"RSA": newRSA(t, 2048), "P-256": newEC(t, elliptic.P256()), "P-384": newEC(t, elliptic.P384()),
		"P-521": newEC(t, elliptic.P521()), "Ed25519": newEd25519(t),
	}

	methods := map[string][]jwt.SigningMethod{
		"RSA": {
			jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
			jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512,
		},
		"P-256": {jwt.SigningMethodES256}, "P-384": {jwt.SigningMethodES384}, "P-521": {jwt.SigningMethodES512},
		"Ed25519": {jwt.SigningMethodEdDSA},
	}
	for mine, key := range keys {
		tokens := tokensOf(t, auth.Config{PublicKeyFile: key.file(t)})
		for kind, ms := range methods {
			for _, m := range ms {
				token := sign(t, m, keys[kind].private, map[string]any{"kid": "any"}, aliceClaims)
				if kind != mine {
					wantReason(t, tokens, token, auth.Algorithm)
				} else if id, err := tokens.Verify(token); err != nil || id.User != "alice" {
					t.Errorf("%s: Verify = %+v, %v", m.Alg(), id, err)
				}
			}
		}

		// A public key must not be accepted as a secret.
		for _, m := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			wantReason(t, tokens, sign(t, m, key.public, nil, aliceClaims), auth.Algorithm)
			wantReason(t, tokens, sign(t, m, []byte(strings.TrimSpace(string(key.public))), nil, aliceClaims), auth.Algorithm)
		}

		wantReason(t, tokens, sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, aliceClaims), auth.Algorithm)
		if _, _, err := tokens.Mint("alice", nil, 1); err == nil || !strings.Contains(err.Error(), "auth.jwt.hmac_secret") {
			t.Errorf("Mint without a secret: %v", err)
		}
	}
}

func TestSecretLengths(t *testing.T) {
	for length, good := range map[int]int{32: 1, 47: 1, 48: 2, 63: 2, 64: 3, 99: 3} {
		secret := strings.Repeat("k", length)
		tokens := tokensOf(t, auth.Config{HMACSecret: secret})

		for i, m := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			token := sign(t, m, []byte(secret), nil, aliceClaims)
			if i >= good {
				wantReason(t, tokens, token, auth.Algorithm)
			} else if _, err := tokens.Verify(token); err != nil {
				t.Errorf("%s with %d bytes: %v", m.Alg(), length, err)
			}
		}
	}
}

// TestSecretAndPublicKey uses a secret together with the public key of another signer.
func TestSecretAndPublicKey(t *testing.T) {
	other := newRSA(t, 2048)
	tokens := tokensOf(t, auth.Config{HMACSecret: secret, PublicKeyFile: other.file(t)})
	own, _, err := tokens.Mint("alice", nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{own, sign(t, jwt.SigningMethodRS256, other.private, nil, aliceClaims)} {
		if id, err := tokens.Verify(token); err != nil || id.User != "alice" {
			t.Errorf("Verify = %+v, %v", id, err)
		}
	}
	wantReason(t, tokens, sign(t, jwt.SigningMethodHS256, other.public, nil, aliceClaims), auth.Signature)
}

func TestInvalidKeyFiles(t *testing.T) {
	dir := t.TempDir()
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	private, marshalErr := x509.MarshalPKCS8PrivateKey(newEd25519(t).private)

	for name, content := range map[string][]byte{
		"empty":       nil,
		"text":        []byte("let me in"),
		"short RSA":   newRSA(t, 1024).public,
		"P-224":       newPair(t, p224, errors.Join(err, marshalErr)).public,
		"private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"not DER":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.New(auth.Config{PublicKeyFile: file}); err == nil || !strings.Contains(err.Error(), "auth.jwt.public_key_file") {
			t.Errorf("%s: %v", name, err)
		}
	}

	if _, err := auth.New(auth.Config{PublicKeyFile: filepath.Join(dir, "none")}); err == nil {
		t.Error("a missing file is accepted")
	}
	if _, err := auth.New(auth.Config{JWKSURL: "file:" + filepath.Join(dir, "none")}); err == nil || !strings.Contains(err.Error(), "auth.jwt.jwks_url") {
		t.Errorf("a missing key set: %v", err)
	}
}

func BenchmarkVerifyHS256(b *testing.B) {
	tokens := newTokens(b, auth.Config{Issuer: "shop", Audience: "browsers"})
	token, _, err := tokens.Mint("alice", []string{"orders.*"}, 1e12)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokens.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
}
