package auth_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/auth"
)

const secret = "0123456789abcdef0123456789abcdef"

func newTokens(tb testing.TB, cfg auth.Config) *auth.Tokens {
	tb.Helper()
	if cfg.HMACSecret == "" {
		cfg.HMACSecret = secret
	}
	tokens, err := auth.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return tokens
}

func TestMint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(t, auth.Config{Issuer: "shop", Audience: "browsers"})
		for _, user := range []string{"alice", "Zoë Ångström", "a/b:c?d", "🦊", strings.Repeat("x", 255), `"`, " "} {
			token, expires, err := tokens.Mint(user, nil, time.Hour)
			if err != nil {
				t.Fatalf("Mint(%q): %v", user, err)
			}
			if left := time.Until(expires); left < time.Hour || left >= time.Hour+time.Second {
				t.Errorf("Mint(%q, 1h) expires in %s", user, left)
			}
			id, err := tokens.Verify(token)
			if err != nil {
				t.Fatalf("Verify of %q's token: %v", user, err)
			}
			if want := (auth.Identity{User: user, Expires: expires.Add(auth.Leeway)}); id.User != want.User || !id.Expires.Equal(want.Expires) {
				t.Errorf("Verify = %+v, want %+v", id, want)
			}
		}
	})
}

func TestTokenExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(t, auth.Config{})
		token, _, err := tokens.Mint("alice", nil, 1500*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		id, err := tokens.Verify(token)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(id.Expires) - time.Nanosecond)
		if _, err := tokens.Verify(token); err != nil {
			t.Errorf("just before expiry: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := tokens.Verify(token); err == nil {
			t.Error("the token is still accepted at its expiry")
		}
	})
}

func TestTokenWithoutExpiry(t *testing.T) {
	id, err := newTokens(t, auth.Config{}).Verify(sign(t, jwt.SigningMethodHS256, []byte(secret), nil, `{"sub":"alice"}`))
	if err != nil || id.User != "alice" || !id.Expires.IsZero() {
		t.Errorf("Verify = %+v, %v", id, err)
	}
}

// TestTokensOfOtherSigners verifies tokens with several audiences, with times that
// are within the leeway, and with unknown claims.
func TestTokensOfOtherSigners(t *testing.T) {
	now := time.Now().Unix()
	tokens := newTokens(t, auth.Config{Issuer: "shop", Audience: "browsers"})
	for name, claims := range map[string]string{
		"several audiences": `{"sub":"alice","iss":"shop","aud":["mobile","browsers"]}`,
		"one audience":      `{"sub":"alice","iss":"shop","aud":"browsers"}`,
		"a fast clock":      `{"sub":"alice","iss":"shop","aud":"browsers","nbf":` + itoa(now+3) + `,"iat":` + itoa(now+3) + `}`,
		"a slow clock":      `{"sub":"alice","iss":"shop","aud":"browsers","exp":` + itoa(now-3) + `}`,
		"fractions":         `{"sub":"alice","iss":"shop","aud":"browsers","exp":` + itoa(now+9) + `.75}`,
		"foreign claims":    `{"sub":"alice","iss":"shop","aud":"browsers","subject":"bob","su":"carol","roles":["x"],"iat":"never","jti":7}`,
	} {
		id, err := tokens.Verify(sign(t, jwt.SigningMethodHS256, []byte(secret), nil, claims))
		if err != nil || id.User != "alice" {
			t.Errorf("%s: Verify = %+v, %v", name, id, err)
		}
	}
}

func TestMintRejectsInvalidArguments(t *testing.T) {
	tokens := newTokens(t, auth.Config{})
	for _, c := range []struct {
		user string
		ttl  time.Duration
	}{
		{"", time.Hour},
		{"a\nb", time.Hour},
		{"a\u0085b", time.Hour},
		{"\xff", time.Hour},
		{strings.Repeat("x", 256), time.Hour},
		{"alice", 0},
		{"alice", -time.Second},
	} {
		if token, _, err := tokens.Mint(c.user, nil, c.ttl); err == nil {
			t.Errorf("Mint(%q, %s) = %q", c.user, c.ttl, token)
		}
	}
}

func TestShortSecret(t *testing.T) {
	for _, s := range []string{"", "hunter2", secret[:31]} {
		_, err := auth.New(auth.Config{HMACSecret: s})
		if err == nil {
			t.Fatalf("a secret of %d bytes is accepted", len(s))
		}
		if !strings.Contains(err.Error(), "auth.jwt.hmac_secret") || !strings.Contains(err.Error(), "32") {
			t.Errorf("%q lacks the key or the minimum length", err)
		}
		if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%q contains the secret", err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	tokens := newTokens(b, auth.Config{Issuer: "shop", Audience: "browsers"})
	token, _, err := tokens.Mint("alice", nil, time.Hour)
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

func BenchmarkMint(b *testing.B) {
	tokens := newTokens(b, auth.Config{})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := tokens.Mint("alice", nil, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}
