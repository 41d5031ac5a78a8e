package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
)

// TestLineBreakAtTheEndOfASecret signs as an application does, which has the
// secret without the line break, before and after a reload.
func TestLineBreakAtTheEndOfASecret(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) {
		cfg.Auth.JWT.HMACSecret = secret + "\n"
		cfg.Control.Tokens = []daemon.Token{{Name: "shop", Token: "token-that-is-long\r\n"}}
	})
	open := func(secret string) {
		t.Helper()
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice"}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		stream(t, client(t), "http://"+r.SSE+"/events?access_token="+token)
	}

	open(secret)
	said := r.log.Take()
	for _, key := range []string{"auth.jwt.hmac_secret", "control.tokens"} {
		want := `level=WARN msg="ignored line break at the end of a secret" setting=` + key + "\n"
		if strings.Count(said, want) != 1 {
			t.Errorf("the log says\n%s\nwant once %s", said, want)
		}
	}

	if said := r.reload(t, func(cfg *daemon.Config) { cfg.SSE.Retry = time.Second }); strings.Contains(said, "line break") {
		t.Errorf("after a reload that leaves secrets alone, the log says\n%s", said)
	}

	other := strings.Repeat("fedcba98", 4)
	said = r.reload(t, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = other + "\r\n" })
	if strings.Count(said, "line break") != 1 || strings.Contains(said, other) {
		t.Errorf("the log says\n%s\nwant one warning", said)
	}
	open(other)
}

// TestSecretThatIsLongEnoughOnlyWithItsLineBreak: what counts is the secret.
func TestSecretThatIsLongEnoughOnlyWithItsLineBreak(t *testing.T) {
	t.Parallel()
	cfg := daemon.Defaults()
	cfg.Auth.JWT.HMACSecret = secret[1:] + "\n"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "a secret of 31 bytes") {
		t.Errorf("error is %v", err)
	}
}

// TestLineBreakAtTheEndOfTheClusterSecret uses a setting that takes a restart.
func TestLineBreakAtTheEndOfTheClusterSecret(t *testing.T) {
	t.Parallel()
	var log pealdtest.Log
	startLogging(t, &log, func(cfg *daemon.Config) {
		cfg.Cluster.Mode, cfg.Cluster.Dir = daemon.ClusterEmbedded, t.TempDir()
		cfg.Cluster.Secret = "cluster\n"
	})
	if said := log.Take(); !strings.Contains(said, `secret" setting=cluster.secret`) {
		t.Errorf("the log says\n%s", said)
	}
}
