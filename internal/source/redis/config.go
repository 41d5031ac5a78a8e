package redis

import (
	"net/url"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/peald/peald/internal/source"
)

// Config holds the settings of a source in Redis.
type Config struct {
	// URL is the address of the server, of its sentinels, or of nodes of its cluster. It is
	// secret, because it may contain a password.
	URL string
	// Cluster is true if URL is the address of nodes of a Redis Cluster.
	Cluster bool
	// TLS configures TLS, which a URL that starts with rediss:// turns on, too.
	TLS source.TLS
	// Streams are the keys of the streams to read.
	Streams []string
	// Group is the consumer group. No other program may read through it.
	Group string
	// Delete is true if entries are deleted once they are acknowledged.
	Delete bool
	// DeadLetter is the stream for entries that can't be published; empty to drop them.
	DeadLetter string
}

const (
	wantURL = "a URL such as redis://USER:PASSWORD@HOST:6379/0, rediss:// for TLS, unix:///PATH, or " +
		"redis://HOST:26379/0?master_name=NAME for sentinels, with special characters percent-encoded"
	wantStreams = "the keys of one or more streams, each only once, such as [orders]"
)

// Kind implements [source.Kind].
func (Config) Kind() string { return "redis" }

// Validate implements [source.Kind].
func (c Config) Validate() error {
	if invalid := c.validateConnection(); invalid != nil {
		return invalid
	}

	if len(c.Streams) == 0 {
		return &source.SettingError{Field: "redis.streams", Given: "[]", Want: wantStreams}
	}

	seen := make(map[string]bool)
	for _, name := range c.Streams {
		if name == "" || seen[name] {
			return &source.SettingError{Field: "redis.streams", Given: strconv.Quote(name), Want: wantStreams}
		}
		if c.Cluster && hashTag(name) == name && strings.Contains(name, "}") {
			return &source.SettingError{Field: "redis.streams", Given: strconv.Quote(name),
				Want: "keys without }, unless they have a hash tag such as {orders}, because a lock is stored in the same slot"}
		}
		seen[name] = true
	}

	if c.Group == "" {
		return &source.SettingError{Field: "redis.group", Given: `""`, Want: "the name of a consumer group, such as peald"}
	}
	if seen[c.DeadLetter] {
		return &source.SettingError{Field: "redis.dead_letter", Given: strconv.Quote(c.DeadLetter), Want: "a stream that isn't one of redis.streams"}
	}

	return nil
}

// validateConnection validates the settings of the connection.
func (c Config) validateConnection() error {
	if _, err := c.options(); err != nil || c.URL == "" {
		given := "***" // the error may contain parts of the password
		if c.URL == "" {
			given = `""`
		}
		return &source.SettingError{Field: "redis.url", Given: given, Want: wantURL}
	}

	if c.TLS.Active() && strings.HasPrefix(c.URL, "unix:") {
		return &source.SettingError{Field: "redis.tls", Given: "settings for a socket file", Want: "none, because socket files don't use TLS"}
	}

	return c.TLS.Validate("redis.tls.")
}

// options returns the settings of the connection, without the files. Its error may
// contain parts of the password.
func (c Config) options() (*goredis.UniversalOptions, error) {
	parsed, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}

	switch {
	case c.Cluster:
		o, err := goredis.ParseClusterURL(c.URL)
		if err != nil {
			return nil, err
		}

		return &goredis.UniversalOptions{
			IsClusterMode: true, Addrs: o.Addrs, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
			DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		}, nil
	case parsed.Query().Has("master_name"):
		o, err := goredis.ParseFailoverURL(c.URL)
		if err != nil {
			return nil, err
		}

		return &goredis.UniversalOptions{
			MasterName: o.MasterName, Addrs: o.SentinelAddrs, DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
			SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
			DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		}, nil
	}

	o, err := goredis.ParseURL(c.URL)
	if err != nil {
		return nil, err
	}

	return &goredis.UniversalOptions{
		Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
	}, nil
}

// Schema implements [source.Kind].
func (Config) Schema() source.Schema {
	return source.Schema{
		Origin: "stream",
		Field:  "field",
		Default: source.Map{
			Topic:          "{field.topic}",
			UserID:         "{field.user_id}",
			Everyone:       "{field.everyone}",
			ExcludeUserID:  "{field.exclude_user_id}",
			Event:          "{field.event}",
			Data:           "{field.data}",
			IdempotencyKey: "{field.idempotency_key}",
			TTL:            "{field.ttl}",
			ConflateKey:    "{field.conflate_key}",
			Retain:         "{field.retain}",
			Final:          "{field.final}",
		},
	}
}

// NewReader implements [source.Kind].
func (c Config) NewReader(o source.Options) source.Reader {
	return &reader{cfg: c, consumer: consumerPrefix + o.Node, log: o.Logger, tokens: make([]string, len(c.Streams))}
}
