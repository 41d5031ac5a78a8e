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

// Values of Settings.Start.
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

// Settings configures a source. It implements [source.Kind].
type Settings struct {
	// Brokers are HOST:PORT addresses from which the client learns of all brokers. The
	// default port is 9092.
	Brokers []string `mapstructure:"brokers"`
	// Topics are the names of the topics to read.
	Topics []string `mapstructure:"topics"`
	// Group is the consumer group. All nodes of a cluster are members, and no other
	// program may be.
	Group string `mapstructure:"group"`
	// Start is where the group starts in a partition for which it has no committed
	// offset. The default is StartEarliest.
	Start string `mapstructure:"start"`
	// DeadLetter is the topic for records that can't be published; empty for none.
	DeadLetter string `mapstructure:"dead_letter"`

	TLS  source.TLS `mapstructure:"tls"`
	SASL SASL       `mapstructure:"sasl"`
}

// SASL configures how the client authenticates itself.
type SASL struct {
	// Mechanism is empty for no authentication.
	Mechanism string `mapstructure:"mechanism"`
	Username  string `mapstructure:"username"`
	Password  string `mapstructure:"password"`
}

// Kind implements [source.Kind].
func (s Settings) Kind() string { return "kafka" }

// Schema implements [source.Kind].
func (s Settings) Schema() source.Schema {
	return source.Schema{
		Origin: "topic", Field: "header", Key: true, Value: true,
		Default: source.Map{Topic: "{topic}", Data: "{value}"},
	}
}

// topicName matches the names that Kafka accepts for topics.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

const acceptedTopics = "names of topics: 1 to 249 letters, digits, '.', '_' and '-'"

// Validate implements [source.Kind].
func (s Settings) Validate() error {
	if len(s.Brokers) == 0 {
		return &source.SettingError{Field: "kafka.brokers", Given: "nothing", Want: "HOST:PORT of at least one broker"}
	}
	for _, b := range s.Brokers {
		if !isAddress(b) {
			return &source.SettingError{Field: "kafka.brokers", Given: strconv.Quote(b), Want: "HOST or HOST:PORT, such as kafka.internal:9092"}
		}
	}

	if len(s.Topics) == 0 {
		return &source.SettingError{Field: "kafka.topics", Given: "nothing", Want: acceptedTopics}
	}
	for i, t := range s.Topics {
		if !isTopic(t) {
			return &source.SettingError{Field: "kafka.topics", Given: strconv.Quote(t), Want: acceptedTopics}
		}
		if slices.Contains(s.Topics[:i], t) {
			return &source.SettingError{Field: "kafka.topics", Given: strconv.Quote(t) + " twice", Want: "each topic once"}
		}
	}

	switch {
	case s.Group == "":
		return &source.SettingError{Field: "kafka.group", Given: "nothing", Want: "the name of a consumer group that only this source uses"}
	case s.Start != "" && s.Start != StartEarliest && s.Start != StartLatest:
		return &source.SettingError{Field: "kafka.start", Given: strconv.Quote(s.Start), Want: "earliest or latest"}
	case s.DeadLetter != "" && !isTopic(s.DeadLetter):
		return &source.SettingError{Field: "kafka.dead_letter", Given: strconv.Quote(s.DeadLetter), Want: "the name of a topic: 1 to 249 letters, digits, '.', '_' and '-'"}
	case slices.Contains(s.Topics, s.DeadLetter):
		return &source.SettingError{Field: "kafka.dead_letter", Given: strconv.Quote(s.DeadLetter) + ", which is also in kafka.topics", Want: "a topic that the source doesn't read"}
	}

	if err := s.TLS.Validate("kafka.tls."); err != nil {
		return err
	}

	return s.SASL.validate()
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
