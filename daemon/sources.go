package daemon

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
	"github.com/peald/peald/internal/source/postgres"
)

// maxSources is the maximum number of entries in sources.
const maxSources = 100

// Source is an entry of sources. The settings of exactly one kind must be set. Fields
// with the tag secret are never printed.
type Source struct {
	// Name identifies the source in the log, metrics and stats. It is part of the
	// idempotency keys of its messages, so a source with a new name may publish messages
	// again.
	Name     string          `mapstructure:"name"`
	Map      SourceMap       `mapstructure:"map"`
	Postgres *PostgresSource `mapstructure:"postgres"`
	Kafka    *KafkaSource    `mapstructure:"kafka"`
	NATS     *NATSSource     `mapstructure:"nats"`
	Redis    *RedisSource    `mapstructure:"redis"`
}

// SourceMap holds the templates that turn a record into a message, as
// [source.Map] describes. An empty template means the default.
type SourceMap struct {
	Topic          string   `mapstructure:"topic"`
	Topics         []string `mapstructure:"topics"`
	UserID         string   `mapstructure:"user_id"`
	Everyone       string   `mapstructure:"everyone"`
	ExcludeUserID  string   `mapstructure:"exclude_user_id"`
	Data           string   `mapstructure:"data"`
	Event          string   `mapstructure:"event"`
	ConflateKey    string   `mapstructure:"conflate_key"`
	Retain         string   `mapstructure:"retain"`
	Final          string   `mapstructure:"final"`
	TTL            string   `mapstructure:"ttl"`
	IdempotencyKey string   `mapstructure:"idempotency_key"`
}

// PostgresSource configures an outbox in PostgreSQL.
type PostgresSource struct {
	// URL is a URL or a list of parameters, as for libpq.
	URL string `mapstructure:"url" secret:"true"`
	// Table is the outbox. The default is peald_outbox.
	Table string `mapstructure:"table"`
	// DeadLetter is the table for rows that can't be published. If it is empty, such rows
	// are deleted.
	DeadLetter string `mapstructure:"dead_letter"`
}

// kinds returns the kinds whose settings are set.
func (s Source) kinds() (kinds []source.Kind) {
	if p := s.Postgres; p != nil {
		c := postgres.Config(*p)
		if c.Table == "" {
			c.Table = outbox.DefaultTable
		}
		kinds = append(kinds, c)
	}
	if s.Kafka != nil {
		kinds = append(kinds, s.Kafka.internal())
	}
	if s.NATS != nil {
		kinds = append(kinds, s.NATS.internal())
	}
	if s.Redis != nil {
		kinds = append(kinds, s.Redis.internal())
	}

	return kinds
}

// withSecrets returns a copy of s in which change is applied to each secret.
func (s Source) withSecrets(change func(secret string) string) Source {
	if s.Postgres != nil {
		p := *s.Postgres
		p.URL = change(p.URL)
		s.Postgres = &p
	}
	if s.Kafka != nil {
		k := *s.Kafka
		k.SASL.Password = change(k.SASL.Password)
		s.Kafka = &k
	}
	if s.NATS != nil {
		n := *s.NATS
		n.URL = change(n.URL)
		s.NATS = &n
	}
	if s.Redis != nil {
		r := *s.Redis
		r.URL = change(r.URL)
		s.Redis = &r
	}

	return s
}

var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func (c Config) checkSources() *SettingError {
	if n := len(c.Sources); n > maxSources {
		return &SettingError{"sources", strconv.Itoa(n) + " sources", fmt.Sprintf("at most %d", maxSources)}
	}

	names := make(map[string]bool)
	for i, s := range c.Sources {
		prefix := fmt.Sprintf("sources[%d]", i)
		if err := s.check(prefix); err != nil {
			return err
		}
		if names[s.Name] {
			return &SettingError{prefix + ".name", strconv.Quote(s.Name) + ", which an earlier source has too", "a different name for each source"}
		}
		names[s.Name] = true
	}

	return nil
}

// check checks the source. Prefix is the start of the keys in errors.
func (s Source) check(prefix string) *SettingError {
	if !sourceName.MatchString(s.Name) {
		return &SettingError{prefix + ".name", strconv.Quote(s.Name), `1 to 63 characters: a-z, 0-9, "_" and "-", beginning with a letter or digit`}
	}

	kinds := s.kinds()
	if len(kinds) != 1 {
		return &SettingError{prefix, fmt.Sprintf("settings of %d kinds", len(kinds)), "the settings of one kind, such as postgres"}
	}

	err := s.internal().Validate()
	if invalid, ok := errors.AsType[*source.SettingError](err); ok {
		return &SettingError{prefix + "." + invalid.Field, invalid.Given, invalid.Want}
	}
	if err != nil {
		return &SettingError{prefix, "invalid settings (" + err.Error() + ")", "valid settings"}
	}

	return nil
}

// internal converts a source that has one kind.
func (s Source) internal() source.Source {
	return source.Source{Name: s.Name, Kind: s.kinds()[0], Map: source.Map(s.Map)}
}

// buildSources builds the part that reads messages from sources.
func (p *parts) buildSources() {
	cfg := source.Config{Publisher: source.LocalPublisher{Broker: p.broker}, Logger: p.log}
	if p.member != nil {
		cfg.Publisher, cfg.Node = sourcePublisher{p.member.node}, p.member.node.Name()
	} else {
		host, _ := os.Hostname()
		cfg.Node = fmt.Sprintf("%s-%08x", host, rand.Uint32())
	}

	p.sources = source.NewManager(cfg)
	p.sources.Reconfigure(internalSources(p.cfg.Sources))
}

// sourcePublisher is a [source.Publisher] for a node of a cluster.
type sourcePublisher struct {
	*cluster.Node
}

// Ready implements [source.Publisher].
func (p sourcePublisher) Ready() error {
	if serving, reason := p.Serving(); !serving {
		return &broker.UnavailableError{Reason: reason}
	}

	return nil
}

// sourceStatuses returns the status of each source for the control plane.
func (p *parts) sourceStatuses() []control.Source {
	all := p.sources.Statuses()
	converted := make([]control.Source, 0, len(all))
	for _, s := range all {
		converted = append(converted, control.Source{
			Name: s.Name, Kind: s.Kind, State: string(s.State), Lag: s.Lag.Records, Oldest: s.Lag.Since,
			Published: s.Published, Rejected: s.Rejected, Failures: s.Failures,
			LastError: s.LastError, LastErrorAt: s.LastErrorAt,
		})
	}

	return converted
}

func internalSources(configured []Source) []source.Source {
	converted := make([]source.Source, 0, len(configured))
	for _, s := range configured {
		converted = append(converted, s.internal())
	}

	return converted
}
