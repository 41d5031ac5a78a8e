package redis_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/redis"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

// permissions are those that docs/sources.md lists.
const permissions = "~events ~dead ~peald:source:* " +
	"+xreadgroup +xautoclaim +xread +xack +xdel +xadd +xpending +xrange +xinfo +xgroup +get +set +del +pexpire +eval +evalsha +multi +exec +select"

// startWithUsers starts a server whose default user has the password "adminsecret".
// Permissions holds the permissions of other users, whose password is "usersecret".
func startWithUsers(tb testing.TB, permissions map[string]string) *sourcetest.Redis {
	tb.Helper()

	args := []string{"--requirepass", "adminsecret"}
	for name, rules := range permissions {
		args = append(args, "--user", name, "on", ">usersecret")
		args = append(args, strings.Fields(rules)...)
	}

	s := sourcetest.NewRedis(tb, args...)
	s.Password = "adminsecret"
	s.Start(tb)

	return s
}

func TestErrorsNameTheProblem(t *testing.T) {
	t.Parallel()

	s := startWithUsers(t, map[string]string{
		"peald":     permissions,
		"weak":      permissions + " -xreadgroup",
		"elsewhere": strings.ReplaceAll(permissions, "~events", "~other"),
	})
	if err := s.Client(t).Set(t.Context(), "text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		change func(*redis.Config)
		want   []string
	}{
		"password":       {func(c *redis.Config) { c.URL = "redis://peald:wrongsecret@" + s.Addr }, []string{"WRONGPASS"}},
		"no password":    {func(*redis.Config) {}, []string{"NOAUTH"}},
		"command":        {func(c *redis.Config) { c.URL = "redis://weak:usersecret@" + s.Addr }, []string{`"events"`, "XREADGROUP", "can't run this command"}},
		"key":            {func(c *redis.Config) { c.URL = "redis://elsewhere:usersecret@" + s.Addr }, []string{`"events"`, "NOPERM"}},
		"type":           {func(c *redis.Config) { c.URL, c.Streams = "redis://:adminsecret@"+s.Addr, []string{"text"} }, []string{`"text"`, "WRONGTYPE"}},
		"database":       {func(c *redis.Config) { c.URL = "redis://:adminsecret@" + s.Addr + "/99" }, []string{"DB index"}},
		"no server":      {func(c *redis.Config) { c.URL = "redis://:usersecret@" + testbed.FreeAddrs(t, 1)[0] }, []string{"connection refused"}},
		"no TLS":         {func(c *redis.Config) { c.URL = "rediss://:adminsecret@" + s.Addr + "?read_timeout=1s" }, nil},
		"no CA file":     {func(c *redis.Config) { c.TLS.CAFile = "/nowhere.pem" }, []string{"redis.tls.ca_file", "/nowhere.pem"}},
		"no certificate": {func(c *redis.Config) { c.TLS.CertFile, c.TLS.KeyFile = "/nowhere.pem", "/nowhere.key" }, []string{"redis.tls.cert_file"}},
		"not a cluster":  {func(c *redis.Config) { c.URL, c.Cluster = "redis://:adminsecret@"+s.Addr, true }, []string{"cluster support disabled"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			cfg := config(s, "events")
			test.change(&cfg)

			got := awaitError(t, run(t, "a", new(sourcetest.Publisher), cfg))
			for _, part := range test.want {
				if !strings.Contains(got, part) {
					t.Errorf("the error is %q, want %q in it", got, part)
				}
			}
			if strings.Contains(got, "secret") {
				t.Errorf("the error contains a secret: %q", got)
			}
		})
	}
}

// The documented permissions suffice.
func TestPermissions(t *testing.T) {
	t.Parallel()

	s := startWithUsers(t, map[string]string{"peald": permissions})
	admin, to := s.Client(t), new(sourcetest.Publisher)
	addNumbered(t, admin, "events", 0, 100)

	cfg := config(s, "events")
	cfg.URL, cfg.Delete, cfg.DeadLetter = "redis://peald:usersecret@"+s.Addr, true, "dead"
	n := run(t, "a", to, cfg)
	awaitNumbered(t, to, "events", 100)

	add(t, admin, "events", "data", "for nobody")
	eventually(t, "the entry is in the dead-letter stream", func() error { return hasLength(t, admin, "dead", 1) })
	eventually(t, "the stream is empty", func() error { return hasLength(t, admin, "events", 0) })
	n.WaitForLag(t, 0)

	if s := n.Status(); s.Failures > 0 {
		t.Errorf("the source failed: %s", s.LastError)
	}
}

// A dead-letter stream that can't be written holds its entries back, because they would
// be lost otherwise.
func TestDeadLetterStreamFails(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t)
	client, to := s.Client(t), new(sourcetest.Publisher)
	if err := client.Set(t.Context(), "dead", "not a stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	add(t, client, "events", "data", "for nobody")

	cfg := config(s, "events")
	cfg.DeadLetter = "dead"
	n := run(t, "a", to, cfg)
	if got := awaitError(t, n); !strings.Contains(got, `"dead"`) || !strings.Contains(got, "WRONGTYPE") {
		t.Errorf("the error is %q", got)
	}

	if err := client.Del(t.Context(), "dead").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the entry is in the dead-letter stream", func() error { return hasLength(t, client, "dead", 1) })
	eventually(t, "all are acknowledged", func() error { return acknowledged(t, client, "events") })
}

func TestTLS(t *testing.T) {
	t.Parallel()

	certificate := testbed.NewCertificate(t)
	addr := testbed.FreeAddrs(t, 1)[0]
	s := sourcetest.StartRedis(t, "--tls-port", addr[strings.LastIndex(addr, ":")+1:], "--tls-auth-clients", "yes",
		"--tls-cert-file", certificate.CertFile, "--tls-key-file", certificate.KeyFile, "--tls-ca-cert-file", certificate.CertFile)
	addNumbered(t, s.Client(t), "events", 0, 10)

	cfg := config(s, "events")
	cfg.URL = "rediss://" + addr
	if got := awaitError(t, run(t, "a", new(sourcetest.Publisher), cfg)); !strings.Contains(got, "x509") {
		t.Errorf("the error without the authority is %q", got)
	}

	to := new(sourcetest.Publisher)
	cfg.TLS = source.TLS{CAFile: certificate.CertFile, CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
	n := run(t, "a", to, cfg)
	n.WaitForState(t, source.StateActive)
	awaitNumbered(t, to, "events", 10)
}

func TestSocket(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "redis.sock")
	s, to := sourcetest.StartRedis(t, "--unixsocket", path), new(sourcetest.Publisher)
	addNumbered(t, s.Client(t), "events", 0, 10)

	cfg := config(s, "events")
	cfg.URL = "unix://" + path
	run(t, "a", to, cfg)
	awaitNumbered(t, to, "events", 10)
}
