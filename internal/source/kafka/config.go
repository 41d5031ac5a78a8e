package kafka

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/peald/peald/internal/source"
)

// Values of Config.Start.
const (
	// StartEarliest is the first record that the topic still has.
	StartEarliest = "earliest"
	// StartLatest is the first record that is written after the Reader has started.
	StartLatest = "latest"
)

// Values of SASL.Mechanism.
const (
	MechanismPlain    = "PLAIN"
	MechanismSCRAM256 = "SCRAM-SHA-256"
	MechanismSCRAM512 = "SCRAM-SHA-512"
)

// Config holds the settings of a source. It implements [source.Kind].
type Config struct {
	// Brokers are HOST:PORT addresses from which the client learns of all brokers. The
	// default port is 9092.
	Brokers []string
	// Topics are the names of the topics to read.
	Topics []string
	// Group is the consumer group. All nodes of a cluster are members, and no other
	// program may be.
	Group string
	// Start determines where the group starts in a partition for which it has no committed
	// offset. The default is StartEarliest.
	Start string
	// DeadLetter is the topic for records that can't be published; empty for none.
	DeadLetter string

	TLS  source.TLS
	SASL SASL
}

// SASL configures how the client authenticates itself.
type SASL struct {
	// Mechanism is empty for no authentication.
	Mechanism string
	Username  string
	Password  string
}

// Kind implements [source.Kind].
func (c Config) Kind() string { return "kafka" }

// Schema implements [source.Kind].
func (c Config) Schema() source.Schema {
	return source.Schema{
		Origin: "topic", Field: "header", Key: true, Value: true,
		Default: source.Map{Topic: "{topic}", Data: "{value}"},
	}
}

// topicName matches the names that Kafka accepts for topics.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

const acceptedTopics = "names of topics: 1 to 249 letters, digits, '.', '_' and '-'"

// Validate implements [source.Kind].
func (c Config) Validate() error {
	if len(c.Brokers) == 0 {
		return &source.SettingError{Field: "kafka.brokers", Given: "nothing", Want: "HOST:PORT of at least one broker"}
	}
	for _, b := range c.Brokers {
		if !isAddress(b) {
			given := strconv.Quote(b)
			if strings.Contains(b, "@") {
				given = "***" // It may contain a password.
			}
			return &source.SettingError{Field: "kafka.brokers", Given: given, Want: "HOST or HOST:PORT, such as kafka.internal:9092"}
		}
	}

	if len(c.Topics) == 0 {
		return &source.SettingError{Field: "kafka.topics", Given: "nothing", Want: acceptedTopics}
	}
	for i, t := range c.Topics {
		if !isTopic(t) {
			return &source.SettingError{Field: "kafka.topics", Given: strconv.Quote(t), Want: acceptedTopics}
		}
		if slices.Contains(c.Topics[:i], t) {
			return &source.SettingError{Field: "kafka.topics", Given: strconv.Quote(t) + " twice", Want: "each topic once"}
		}
	}

	switch {
	case c.Group == "":
		return &source.SettingError{Field: "kafka.group", Given: "nothing", Want: "the name of a consumer group that only this source uses"}
	case c.Start != "" && c.Start != StartEarliest && c.Start != StartLatest:
		return &source.SettingError{Field: "kafka.start", Given: strconv.Quote(c.Start), Want: "earliest or latest"}
	case c.DeadLetter != "" && !isTopic(c.DeadLetter):
		return &source.SettingError{Field: "kafka.dead_letter", Given: strconv.Quote(c.DeadLetter), Want: "the name of a topic: 1 to 249 letters, digits, '.', '_' and '-'"}
	case slices.Contains(c.Topics, c.DeadLetter):
		return &source.SettingError{Field: "kafka.dead_letter", Given: strconv.Quote(c.DeadLetter) + ", which is also in kafka.topics", Want: "a topic that the source doesn't read"}
	}

	if err := c.TLS.Validate("kafka.tls."); err != nil {
		return err
	}

	return c.SASL.validate()
}

func (s SASL) validate() error {
	mechanisms := []string{MechanismPlain, MechanismSCRAM256, MechanismSCRAM512}

	switch {
	case s == SASL{}:
		return nil
	case s.Mechanism == "":
		return &source.SettingError{Field: "kafka.sasl.mechanism", Given: "nothing although kafka.sasl.username or kafka.sasl.password is set", Want: strings.Join(mechanisms, ", ")}
	case !slices.Contains(mechanisms, s.Mechanism):
		return &source.SettingError{Field: "kafka.sasl.mechanism", Given: strconv.Quote(s.Mechanism), Want: strings.Join(mechanisms, ", ")}
	case s.Username == "":
		return &source.SettingError{Field: "kafka.sasl.username", Given: "nothing", Want: "a username, as kafka.sasl.mechanism is " + s.Mechanism}
	case s.Password == "":
		return &source.SettingError{Field: "kafka.sasl.password", Given: "nothing", Want: fmt.Sprintf("the password of %q", s.Username)}
	}

	return nil
}

// isTopic reports whether name can be the name of a topic.
func isTopic(name string) bool { return topicName.MatchString(name) && name != "." && name != ".." }

// isAddress reports whether s is HOST or HOST:PORT.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, "9092"
	}
	n, err := strconv.ParseUint(port, 10, 16)

	return err == nil && n > 0 && host != "" && !strings.ContainsAny(host, "/@ \t\n") &&
		(net.ParseIP(host) != nil || !strings.Contains(host, ":"))
}
