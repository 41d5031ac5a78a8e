package daemon

import (
	"cmp"

	"github.com/peald/peald/internal/source/redis"
)

// defaultRedisGroup is the default of redis.group.
const defaultRedisGroup = "peald"

// RedisSource configures streams in Redis.
type RedisSource struct {
	// URL is the address of the server, of its sentinels, or of nodes of its cluster.
	URL string `mapstructure:"url" secret:"true"`
	// Cluster is true if URL is the address of nodes of a Redis Cluster.
	Cluster bool `mapstructure:"cluster"`
	// CAFile is a PEM file with the authorities that may sign the server's certificate. If
	// it is empty, those that the system trusts may.
	CAFile string `mapstructure:"ca_file"`
	// CertFile and KeyFile are PEM files with the client's certificate.
	CertFile string `mapstructure:"cert_file"`
	KeyFile  string `mapstructure:"key_file"`
	// Streams are the keys of the streams.
	Streams []string `mapstructure:"streams"`
	// Group is the consumer group. The default is peald. No other program may read through
	// it.
	Group string `mapstructure:"group"`
	// Delete is true if entries are deleted once they are acknowledged.
	Delete bool `mapstructure:"delete"`
	// DeadLetter is the stream for entries that can't be published. If it is empty, such
	// entries are dropped.
	DeadLetter string `mapstructure:"dead_letter"`
}

// config returns the settings with their defaults.
func (s RedisSource) config() redis.Config {
	s.Group = cmp.Or(s.Group, defaultRedisGroup)

	return redis.Config(s)
}
