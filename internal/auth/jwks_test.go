package auth_test

import (
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/auth"
)

// jwk returns the entry for a key in a set.
func jwk(tb testing.TB, p pair, id string, change func(*jwkset.JWKMarshal)) json.RawMessage {
	tb.Helper()
	made, err := jwkset.NewJWKFromKey(p.private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id}})
	if err != nil {
		tb.Fatal(err)
	}

	m := made.Marshal()
	if change != nil {
		change(&m)
	}

	text, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}

	return text
}

func jwks(tb testing.TB, keys ...json.RawMessage) []byte {
	tb.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// keyServer serves a key set that can be replaced. Without one it replies 500.
type keyServer struct {
	*httptest.Server
	set      atomic.Pointer[[]byte]
	requests atomic.Int64
}

func newKeyServer(tb testing.TB, set []byte) *keyServer {
	tb.Helper()
	s := &keyServer{}
	s.set.Store(&set)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.requests.Add(1)
		if set := *s.set.Load(); set != nil {
			w.Write(set)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	tb.Cleanup(s.Close)
	return s
}

func named(id string) map[string]any { return map[string]any{"kid": id} }

func TestKeySetRotation(t *testing.T) {
	first, second, third := newRSA(t, 2048), newEC(t, elliptic.P256()), newEd25519(t)
	server := newKeyServer(t, jwks(t, jwk(t, first, "1", nil)))
	tokens := tokensOf(t, auth.Config{JWKSURL: server.URL})
	byFirst := sign(t, jwt.SigningMethodPS256, first.private, named("1"), aliceClaims)
	bySecond := sign(t, jwt.SigningMethodES256, second.private, named("2"), aliceClaims)

	good := func(token string) {
		t.Helper()
		if id, err := tokens.Verify(token); err != nil || id.User != "alice" {
			t.Errorf("Verify = %+v, %v", id, err)
		}
	}

	good(byFirst)
	good(sign(t, jwt.SigningMethodRS256, first.private, nil, aliceClaims)) // the only key
	wantReason(t, tokens, sign(t, jwt.SigningMethodRS256, first.private, named("9"), aliceClaims), auth.Key)
	wantReason(t, tokens, sign(t, jwt.SigningMethodRS256, newRSA(t, 2048).private, named("1"), aliceClaims), auth.Signature)
	wantReason(t, tokens, sign(t, jwt.SigningMethodHS256, first.public, named("1"), aliceClaims), auth.Algorithm)
	wantReason(t, tokens, sign(t, jwt.SigningMethodRS256, first.private, map[string]any{"kid": 1}, aliceClaims), auth.Malformed)

	// The first token with a new key causes a fetch, which also removes the old key.
	rotated := jwks(t, jwk(t, second, "2", nil))
	server.set.Store(&rotated)
	good(bySecond)
	wantReason(t, tokens, byFirst, auth.Algorithm)

	// While the server fails, the last key set is used.
	none := []byte(nil)
	server.set.Store(&none)

	byThird := sign(t, jwt.SigningMethodEdDSA, third.private, named("3"), aliceClaims)
	if _, err := tokens.Verify(byThird); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("a key that can't be fetched: %v", err)
	}

	server.Close()
	good(bySecond)

	for range 100 {
		if _, err := tokens.Verify(byThird); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("a key that can't be fetched: %v", err)
		}
	}
}

// TestUnknownKeyIDs checks that arbitrary key IDs cause few fetches.
func TestUnknownKeyIDs(t *testing.T) {
	key := newEC(t, elliptic.P256())
	server := newKeyServer(t, jwks(t, jwk(t, key, "1", nil)))
	tokens := tokensOf(t, auth.Config{JWKSURL: server.URL})
	for i := range 200 {
		if _, err := tokens.Verify(sign(t, jwt.SigningMethodES256, key.private, named("x"+itoa(int64(i))), aliceClaims)); err == nil {
			t.Fatal("a token with an unknown key is accepted")
		}
	}
	if n := server.requests.Load(); n > 10 {
		t.Errorf("%d fetches for 200 unknown keys", n)
	}
}

// TestUnreachableKeyServer checks that a key server may be unreachable at startup.
func TestUnreachableKeyServer(t *testing.T) {
	key := newEd25519(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	addr := listener.Addr().String()
	listener.Close()
	tokens := tokensOf(t, auth.Config{JWKSURL: "http://" + addr})

	token := sign(t, jwt.SigningMethodEdDSA, key.private, named("1"), aliceClaims)
	if _, err := tokens.Verify(token); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without keys: %v", err)
	}
	if listener, err = net.Listen("tcp", addr); err != nil {
		t.Skip("the port is in use")
	}

	set := jwks(t, jwk(t, key, "1", nil))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) })}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })

	if id, err := tokens.Verify(token); err != nil || id.User != "alice" {
		t.Errorf("Verify = %+v, %v", id, err)
	}
}

func TestKeySetInFile(t *testing.T) {
	ec, other := newEC(t, elliptic.P384()), newEC(t, elliptic.P384())
	file := filepath.Join(t.TempDir(), "jwks.json")

	set := jwks(t,
		json.RawMessage(`{"kty":"oct","kid":"secret","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}`),
		json.RawMessage(`{"kty":"quantum","kid":"q"}`),
		jwk(t, newRSA(t, 1024), "short", nil),
		jwk(t, other, "encryption", func(m *jwkset.JWKMarshal) { m.USE = jwkset.UseEnc }),
		jwk(t, other, "signing only", func(m *jwkset.JWKMarshal) { m.KEYOPS = []jwkset.KEYOPS{jwkset.KeyOpsSign} }),
		jwk(t, other, "odd", func(m *jwkset.JWKMarshal) { m.ALG = jwkset.AlgHS256 }),
		jwk(t, ec, "good", func(m *jwkset.JWKMarshal) { m.ALG = jwkset.AlgES384 }),
	)
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}

	for _, location := range []string{file, "file:" + file, "file://" + file} {
		tokens := tokensOf(t, auth.Config{JWKSURL: location})
		if _, err := tokens.Verify(sign(t, jwt.SigningMethodES384, ec.private, named("good"), aliceClaims)); err != nil {
			t.Error(err)
		}
		for _, id := range []string{"encryption", "signing only", "odd"} {
			wantReason(t, tokens, sign(t, jwt.SigningMethodES384, other.private, named(id), aliceClaims), auth.Key)
		}
		wantReason(t, tokens, sign(t, jwt.SigningMethodHS256, []byte(secret), named("secret"), aliceClaims), auth.Algorithm)
	}

	for _, bad := range []string{"", "{}", `{"keys":[{"kty":"oct","k":"eA"}]}`, `{"keys":7}`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.New(auth.Config{JWKSURL: file}); err == nil {
			t.Errorf("the key set %s is accepted", bad)
		}
	}
}
