package redis_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/redis"
)

func valid() redis.Config {
	return redis.Config{URL: "redis://127.0.0.1:6379/0", Streams: []string{"orders"}, Group: "peald"}
}

func TestValidate(t *testing.T) {
	t.Parallel()

	for name, change := range map[string]func(*redis.Config){
		"plain":        func(*redis.Config) {},
		"user":         func(c *redis.Config) { c.URL = "redis://user:secret@host:7000/3?read_timeout=2s" },
		"TLS":          func(c *redis.Config) { c.URL, c.TLS.CAFile = "rediss://host", "ca.pem" },
		"certificate":  func(c *redis.Config) { c.TLS = source.TLS{CertFile: "cert.pem", KeyFile: "key.pem"} },
		"socket":       func(c *redis.Config) { c.URL = "unix:///run/redis/redis.sock?db=1" },
		"sentinels":    func(c *redis.Config) { c.URL = "redis://one:26379/0?master_name=main&addr=two:26379" },
		"cluster":      func(c *redis.Config) { c.URL, c.Cluster = "redis://one:6379?addr=two:6379", true },
		"hash tag":     func(c *redis.Config) { c.Cluster, c.Streams = true, []string{"{a}b}"} },
		"braces":       func(c *redis.Config) { c.Streams = []string{"a}b"} },
		"many streams": func(c *redis.Config) { c.Streams, c.DeadLetter = []string{"a", "b"}, "c" },
	} {
		cfg := valid()
		change(&cfg)
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalidSettings(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		change func(*redis.Config)
		field  string
		given  string
	}{
		"no URL":               {func(c *redis.Config) { c.URL = "" }, "redis.url", `""`},
		"scheme":               {func(c *redis.Config) { c.URL = "http://:secret@host" }, "redis.url", "***"},
		"port":                 {func(c *redis.Config) { c.URL = "redis://user:sec#ret@host" }, "redis.url", "***"},
		"database":             {func(c *redis.Config) { c.URL = "redis://:secret@host/x" }, "redis.url", "***"},
		"parameter":            {func(c *redis.Config) { c.URL = "redis://:secret@host/0?colour=red" }, "redis.url", "***"},
		"socket of a cluster":  {func(c *redis.Config) { c.URL, c.Cluster = "unix:///secret", true }, "redis.url", "***"},
		"TLS on a socket":      {func(c *redis.Config) { c.URL, c.TLS.Enabled = "unix:///secret", true }, "redis.tls", "settings for a socket file"},
		"no key":               {func(c *redis.Config) { c.TLS.CertFile = "cert.pem" }, "redis.tls.cert_file", `"cert.pem" with the key ""`},
		"no streams":           {func(c *redis.Config) { c.Streams = nil }, "redis.streams", "[]"},
		"empty stream":         {func(c *redis.Config) { c.Streams = []string{"a", ""} }, "redis.streams", `""`},
		"same stream twice":    {func(c *redis.Config) { c.Streams = []string{"a", "b", "a"} }, "redis.streams", `"a"`},
		"brace in a cluster":   {func(c *redis.Config) { c.Cluster, c.Streams = true, []string{"a}b"} }, "redis.streams", `"a}b"`},
		"no group":             {func(c *redis.Config) { c.Group = "" }, "redis.group", `""`},
		"dead letter a stream": {func(c *redis.Config) { c.DeadLetter = "orders" }, "redis.dead_letter", `"orders"`},
	} {
		cfg := valid()
		test.change(&cfg)

		invalid, ok := errors.AsType[*source.SettingError](cfg.Validate())
		if !ok || invalid.Field != test.field || invalid.Given != test.given || invalid.Want == "" {
			t.Errorf("%s: %+v, want an error for %s", name, invalid, test.field)
			continue
		}
		if text := invalid.Error(); strings.Contains(text, "sec") && test.field == "redis.url" {
			t.Errorf("%s: the error contains a secret: %s", name, text)
		}
	}
}

// No error contains any part of the URL, because it may contain a password.
func FuzzURL(f *testing.F) {
	for _, text := range []string{
		"redis://u:p4ssw0rd@h:1/2", "redis://u:p4ss#w0rd@h", "rediss://p4ssw0rd", "unix://p4ssw0rd", "redis://h:p4ssw0rd", "p4ssw0rd://h",
		"redis://h?p4ssw0rd=1", "redis://h/p4ssw0rd", "redis://h?db=p4ssw0rd", "redis://h/0?master_name=p4ssw0rd", "redis://%zzp4ssw0rd",
	} {
		f.Add(text, false)
		f.Add(text, true)
	}

	f.Fuzz(func(t *testing.T, url string, cluster bool) {
		cfg := valid()
		cfg.URL, cfg.Cluster = url, cluster

		if err := cfg.Validate(); err != nil && strings.Contains(url, "p4ss") && strings.Contains(err.Error(), "p4ss") {
			t.Errorf("the error for %q is %v", url, err)
		}
	})
}
