package daemon

import (
	"cmp"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/jetstream"
	"github.com/peald/peald/internal/source/kafka"
	"github.com/peald/peald/internal/source/redis"
)

// SourceTLS configures the connections to a source's servers.
type SourceTLS struct {
	// Enabled turns TLS on, with the system's certificate authorities. It is implied by
	// the other fields.
	Enabled bool `mapstructure:"enabled"`
	// CAFile is a PEM file with the authorities that may sign the servers' certificates.
	CAFile string `mapstructure:"ca_file"`
	// CertFile and KeyFile are PEM files with the client's certificate chain and its
	// private key.
	CertFile string `mapstructure:"cert_file"`
	KeyFile  string `mapstructure:"key_file"`
	// ServerName is the name in the servers' certificates, if it isn't the host that the
	// daemon connects to.
	ServerName string `mapstructure:"server_name"`
}

// KafkaSource configures topics of Apache Kafka, as [kafka.Config] describes.
type KafkaSource struct {
	Brokers    []string  `mapstructure:"brokers"`
	Topics     []string  `mapstructure:"topics"`
	Group      string    `mapstructure:"group"`
	Start      string    `mapstructure:"start"`
	DeadLetter string    `mapstructure:"dead_letter"`
	TLS        SourceTLS `mapstructure:"tls"`
	SASL       KafkaSASL `mapstructure:"sasl"`
}

// KafkaSASL configures how the daemon authenticates itself to Kafka.
type KafkaSASL struct {
	Mechanism string `mapstructure:"mechanism"`
	Username  string `mapstructure:"username"`
	Password  string `mapstructure:"password" secret:"true"`
}

func (s KafkaSource) internal() kafka.Config {
	return kafka.Config{
		Brokers: s.Brokers, Topics: s.Topics, Group: s.Group, Start: s.Start, DeadLetter: s.DeadLetter,
		TLS: source.TLS(s.TLS), SASL: kafka.SASL(s.SASL),
	}
}

// NATSSource configures a stream of NATS JetStream, as [jetstream.Config] describes.
type NATSSource struct {
	URL             string    `mapstructure:"url" secret:"true"`
	CredentialsFile string    `mapstructure:"credentials_file"`
	TLS             SourceTLS `mapstructure:"tls"`
	Domain          string    `mapstructure:"domain"`
	Stream          string    `mapstructure:"stream"`
	Consumer        string    `mapstructure:"consumer"`
	Subjects        []string  `mapstructure:"subjects"`
	Start           string    `mapstructure:"start"`
	DeadLetter      string    `mapstructure:"dead_letter"`
}

func (s NATSSource) internal() jetstream.Config {
	return jetstream.Config{
		URL: s.URL, CredentialsFile: s.CredentialsFile, TLS: source.TLS(s.TLS), Domain: s.Domain,
		Stream: s.Stream, Consumer: s.Consumer, Subjects: s.Subjects, Start: s.Start, DeadLetter: s.DeadLetter,
	}
}

// defaultRedisGroup is the default of redis.group.
const defaultRedisGroup = "peald"

// RedisSource configures streams in Redis, as [redis.Config] describes.
type RedisSource struct {
	URL        string    `mapstructure:"url" secret:"true"`
	Cluster    bool      `mapstructure:"cluster"`
	TLS        SourceTLS `mapstructure:"tls"`
	Streams    []string  `mapstructure:"streams"`
	Group      string    `mapstructure:"group"`
	Delete     bool      `mapstructure:"delete"`
	DeadLetter string    `mapstructure:"dead_letter"`
}

func (s RedisSource) internal() redis.Config {
	return redis.Config{
		URL: s.URL, Cluster: s.Cluster, TLS: source.TLS(s.TLS),
		Streams: s.Streams, Group: cmp.Or(s.Group, defaultRedisGroup), Delete: s.Delete, DeadLetter: s.DeadLetter,
	}
}
