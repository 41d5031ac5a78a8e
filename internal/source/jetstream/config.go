package jetstream

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/peald/peald/internal/source"
)

// Values of Config.Start.
const (
	// StartAll is the first message that the stream still has.
	StartAll = "all"
	// StartNew is the first message after the consumer's creation.
	StartNew = "new"
)

// Config holds the settings of a source. It implements [source.Kind].
type Config struct {
	// URL has the URLs of servers, separated by commas. They may contain a password or a
	// token.
	URL string
	// CredentialsFile is a .creds file; empty for none.
	CredentialsFile string
	TLS             source.TLS
	// Domain is the JetStream domain; empty for the servers' own.
	Domain string

	// Stream is the name of the stream.
	Stream string
	// Consumer is the name of the durable consumer, which only this source uses. It is
	// created if it doesn't exist.
	Consumer string
	// Subjects are the consumer's filter; empty for all subjects of the stream.
	Subjects []string
	// Start determines where a consumer starts that the Reader creates. The default is StartAll.
	Start string
	// DeadLetter is the subject for messages that can't be published; empty for none. A
	// stream must store it.
	DeadLetter string
}

// Kind implements [source.Kind].
func (c Config) Kind() string { return "nats" }

// Schema implements [source.Kind].
func (c Config) Schema() source.Schema {
	return source.Schema{
		Origin: "subject", Field: "header", Value: true,
		Default: source.Map{Topic: "{subject}", Data: "{value}"},
	}
}

// Validate implements [source.Kind].
func (c Config) Validate() error {
	const accepted = `URLs of NATS servers, separated by commas, such as "nats://10.0.0.2:4222" or "tls://nats.internal:4222"`
	if c.URL == "" {
		return &source.SettingError{Field: "nats.url", Given: "nothing", Want: accepted}
	}
	for _, one := range c.urls() {
		u, err := url.Parse(one)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return &source.SettingError{Field: "nats.url", Given: "an invalid URL", Want: accepted}
		}
	}

	if err := c.TLS.Validate("nats.tls."); err != nil {
		return err
	}

	const acceptedName = "a name without spaces, dots, slashes, '*' and '>'"
	switch {
	case !isName(c.Stream):
		return &source.SettingError{Field: "nats.stream", Given: quote(c.Stream), Want: acceptedName}
	case !isName(c.Consumer):
		return &source.SettingError{Field: "nats.consumer", Given: quote(c.Consumer), Want: acceptedName + "; the consumer is created if it doesn't exist"}
	case c.Start != "" && c.Start != StartAll && c.Start != StartNew:
		return &source.SettingError{Field: "nats.start", Given: strconv.Quote(c.Start), Want: "all or new"}
	case c.Domain != "" && !isName(c.Domain):
		return &source.SettingError{Field: "nats.domain", Given: strconv.Quote(c.Domain), Want: acceptedName}
	case c.DeadLetter != "" && (!isSubject(c.DeadLetter) || strings.ContainsAny(c.DeadLetter, "*>")):
		return &source.SettingError{Field: "nats.dead_letter", Given: strconv.Quote(c.DeadLetter), Want: "a subject without wildcards, which a stream stores"}
	}

	for i, subject := range c.Subjects {
		if !isSubject(subject) {
			return &source.SettingError{Field: "nats.subjects", Given: strconv.Quote(subject), Want: `a subject such as "orders" or "orders.>"`}
		}
		if slices.Contains(c.Subjects[:i], subject) {
			return &source.SettingError{Field: "nats.subjects", Given: strconv.Quote(subject) + " twice", Want: "each subject once"}
		}
	}

	return nil
}

// urls returns the URLs one by one.
func (c Config) urls() []string {
	urls := strings.Split(c.URL, ",")
	for i := range urls {
		urls[i] = strings.TrimSpace(urls[i])
	}

	return urls
}

// hosts returns the servers' addresses, without secrets.
func (c Config) hosts() string {
	urls := c.urls()
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
