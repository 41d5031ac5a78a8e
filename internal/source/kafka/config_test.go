package kafka_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/kafka"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	set := func(change func(*kafka.Config)) kafka.Config {
		cfg := kafka.Config{Brokers: []string{"kafka.internal:9092"}, Topics: []string{"orders"}, Group: "peald"}
		change(&cfg)
		return cfg
	}

	for name, cfg := range map[string]kafka.Config{
		"minimal":      set(func(*kafka.Config) {}),
		"default port": set(func(c *kafka.Config) { c.Brokers = []string{"kafka", "10.0.0.1", "[2001:db8::1]:9092", "2001:db8::1"} }),
		"everything": set(func(c *kafka.Config) {
			c.Start, c.DeadLetter, c.TLS.Enabled = "latest", "orders.dead", true
			c.SASL = kafka.SASL{Mechanism: "PLAIN", Username: "u", Password: "p"}
		}),
	} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v, want no error", name, err)
		}
	}

	for name, test := range map[string]struct {
		change func(*kafka.Config)
		field  string
		given  string
	}{
		"no brokers":       {func(c *kafka.Config) { c.Brokers = nil }, "kafka.brokers", "nothing"},
		"broker with path": {func(c *kafka.Config) { c.Brokers = []string{"kafka://b:9092"} }, "kafka.brokers", `"kafka://b:9092"`},
		"bad port":         {func(c *kafka.Config) { c.Brokers = []string{"b:0"} }, "kafka.brokers", `"b:0"`},
		"broker with user": {func(c *kafka.Config) { c.Brokers = []string{"u:p@b:9092"} }, "kafka.brokers", "***"},
		"no topics":        {func(c *kafka.Config) { c.Topics = nil }, "kafka.topics", "nothing"},
		"pattern":          {func(c *kafka.Config) { c.Topics = []string{"orders.*"} }, "kafka.topics", `"orders.*"`},
		"dots":             {func(c *kafka.Config) { c.Topics = []string{".."} }, "kafka.topics", `".."`},
		"topic twice":      {func(c *kafka.Config) { c.Topics = []string{"a", "a"} }, "kafka.topics", `"a" twice`},
		"no group":         {func(c *kafka.Config) { c.Group = "" }, "kafka.group", "nothing"},
		"unknown start":    {func(c *kafka.Config) { c.Start = "now" }, "kafka.start", `"now"`},
		"bad dead letter":  {func(c *kafka.Config) { c.DeadLetter = "a b" }, "kafka.dead_letter", `"a b"`},
		"loop":             {func(c *kafka.Config) { c.DeadLetter = "orders" }, "kafka.dead_letter", `"orders", which is also in kafka.topics`},
		"key without cert": {func(c *kafka.Config) { c.TLS.KeyFile = "k" }, "kafka.tls.cert_file", `"" with the key "k"`},
		"no mechanism":     {func(c *kafka.Config) { c.SASL.Password = "secret" }, "kafka.sasl.mechanism", "nothing although"},
		"bad mechanism":    {func(c *kafka.Config) { c.SASL = kafka.SASL{Mechanism: "plain", Password: "secret"} }, "kafka.sasl.mechanism", `"plain"`},
		"no username":      {func(c *kafka.Config) { c.SASL = kafka.SASL{Mechanism: "PLAIN", Password: "secret"} }, "kafka.sasl.username", "nothing"},
		"no password":      {func(c *kafka.Config) { c.SASL = kafka.SASL{Mechanism: "PLAIN", Username: "u"} }, "kafka.sasl.password", "nothing"},
	} {
		err := set(test.change).Validate()
		invalid, ok := errors.AsType[*source.SettingError](err)
		if !ok || invalid.Field != test.field || !strings.HasPrefix(invalid.Given, test.given) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want an error about %s, given %s, without secrets", name, err, test.field, test.given)
		}
	}
}
