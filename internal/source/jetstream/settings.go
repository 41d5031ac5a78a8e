package jetstream

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/peald/peald/internal/source"
)

// Values of Settings.Start.
const (
	// StartAll is the first message that the stream still has.
	StartAll = "all"
	// StartNew is the first message after the consumer's creation.
	StartNew = "new"
)

// Settings configures a source. It implements [source.Kind].
type Settings struct {
	// URL has the URLs of servers, separated by commas. They may contain a password or a
	// token.
	URL string `mapstructure:"url"`
	// CredentialsFile is a .creds file; empty for none.
	CredentialsFile string     `mapstructure:"credentials_file"`
	TLS             source.TLS `mapstructure:"tls"`
	// Domain is the JetStream domain; empty for the servers' own.
	Domain string `mapstructure:"domain"`

	// Stream is the name of the stream.
	Stream string `mapstructure:"stream"`
	// Consumer is the name of the durable consumer, which only this source uses. It is
	// created if it doesn't exist.
	Consumer string `mapstructure:"consumer"`
	// Subjects are the consumer's filter; empty for all subjects of the stream.
	Subjects []string `mapstructure:"subjects"`
	// Start is where a consumer starts that the Reader creates. The default is StartAll.
	Start string `mapstructure:"start"`
	// DeadLetter is the subject for messages that can't be published; empty for none. A
	// stream must store it.
	DeadLetter string `mapstructure:"dead_letter"`
}

// Kind implements [source.Kind].
func (s Settings) Kind() string { return "nats" }

// Schema implements [source.Kind].
func (s Settings) Schema() source.Schema {
	return source.Schema{
		Origin: "subject", Field: "header", Value: true,
		Default: source.Map{Topic: "{subject}", Data: "{value}"},
	}
}

// Validate implements [source.Kind].
func (s Settings) Validate() error {
	const accepted = `URLs of NATS servers, separated by commas, such as "nats://10.0.0.2:4222" or "tls://nats.internal:4222"`
	if s.URL == "" {
		return &source.SettingError{Field: "nats.url", Given: "nothing", Want: accepted}
	}
	for _, one := range s.urls() {
		u, err := url.Parse(one)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return &source.SettingError{Field: "nats.url", Given: "an invalid URL", Want: accepted}
		}
	}

	if err := s.TLS.Validate("nats.tls."); err != nil {
		return err
	}

	const acceptedName = "a name without spaces, dots, slashes, '*' and '>'"
	switch {
	case !isName(s.Stream):
		return &source.SettingError{Field: "nats.stream", Given: quote(s.Stream), Want: acceptedName}
	case !isName(s.Consumer):
		return &source.SettingError{Field: "nats.consumer", Given: quote(s.Consumer), Want: acceptedName + "; the consumer is created if it doesn't exist"}
	case s.Start != "" && s.Start != StartAll && s.Start != StartNew:
		return &source.SettingError{Field: "nats.start", Given: strconv.Quote(s.Start), Want: "all or new"}
	case s.Domain != "" && !isName(s.Domain):
		return &source.SettingError{Field: "nats.domain", Given: strconv.Quote(s.Domain), Want: acceptedName}
	case s.DeadLetter != "" && (!isSubject(s.DeadLetter) || strings.ContainsAny(s.DeadLetter, "*>")):
		return &source.SettingError{Field: "nats.dead_letter", Given: strconv.Quote(s.DeadLetter), Want: "a subject without wildcards, which a stream stores"}
	}

	for i, subject := range s.Subjects {
		if !isSubject(subject) {
			return &source.SettingError{Field: "nats.subjects", Given: strconv.Quote(subject), Want: `a subject such as "orders" or "orders.>"`}
		}
		if slices.Contains(s.Subjects[:i], subject) {
			return &source.SettingError{Field: "nats.subjects", Given: strconv.Quote(subject) + " twice", Want: "each subject once"}
		}
	}

	return nil
}

// urls returns the URLs one by one.
func (s Settings) urls() []string {
	urls := strings.Split(s.URL, ",")
	for i := range urls {
		urls[i] = strings.TrimSpace(urls[i])
	}

	return urls
}

// hosts returns the servers' addresses, without secrets.
func (s Settings) hosts() string {
	urls := s.urls()
	for i, one := range urls {
		u, err := url.Parse(one)
		if err != nil {
			u = new(url.URL) // Validate has already rejected it.
		}
		urls[i] = u.Host
	}

	return strings.Join(urls, ", ")
}

// quote returns s in quotes, or "nothing".
func quote(s string) string {
	if s == "" {
		return "nothing"
	}

	return strconv.Quote(s)
}

// isName reports whether s can be the name of a stream or a consumer.
func isName(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsAny(s, ".*>/\\ \t\r\n") && isPrintable(s)
}

// isSubject reports whether s is a subject, which may have wildcards.
func isSubject(s string) bool {
	tokens := strings.Split(s, ".")
	for i, token := range tokens {
		switch {
		case token == "", strings.ContainsAny(token, " \t\r\n"), !isPrintable(token):
			return false
		case token == ">" && i < len(tokens)-1:
			return false
		}
	}

	return true
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}
