package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/testbed"
)

// TestLineBreakAfterSecret signs tokens like an application, with the secret
// without the line break, before and after a reload.
func TestLineBreakAfterSecret(t *testing.T) {
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
	logged := r.log.Take()
	for _, key := range []string{"auth.jwt.hmac_secret", "control.tokens"} {
		want := `level=WARN msg="ignored line break at the end of a secret" setting=` + key + "\n"
		if strings.Count(logged, want) != 1 {
			t.Errorf("the log is\n%s\nwant %s once", logged, want)
		}
	}

	if logged := r.reload(t, func(cfg *daemon.Config) { cfg.SSE.Retry = time.Second }); strings.Contains(logged, "line break") {
		t.Errorf("after a reload without changed secrets, the log is\n%s", logged)
	}

	other := strings.Repeat("fedcba98", 4)
	logged = r.reload(t, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = other + "\r\n" })
	if strings.Count(logged, "line break") != 1 || strings.Contains(logged, other) {
		t.Errorf("the log is\n%s\nwant one warning", logged)
	}
	open(other)
}

// TestSecretTooShortWithoutLineBreak checks that the line break doesn't count as
// part of the secret.
func TestSecretTooShortWithoutLineBreak(t *testing.T) {
	t.Parallel()
	cfg := daemon.Defaults()
	cfg.Auth.JWT.HMACSecret = secret[1:] + "\n"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "a secret of 31 bytes") {
		t.Errorf("error is %v", err)
	}
}

// TestLineBreakAfterClusterSecret uses a setting that needs a restart to change.
func TestLineBreakAfterClusterSecret(t *testing.T) {
	t.Parallel()
	var log testbed.Log
	startLogging(t, &log, func(cfg *daemon.Config) {
		cfg.Cluster.Mode, cfg.Cluster.Dir = daemon.ClusterEmbedded, t.TempDir()
		cfg.Cluster.Secret = "cluster\n"
	})
	if logged := log.Take(); !strings.Contains(logged, `secret" setting=cluster.secret`) {
		t.Errorf("the log is\n%s", logged)
	}
}
