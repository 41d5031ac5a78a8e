package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	defaultMaxEventSize = 8 << 20          // peald's limit is 1 MiB, which an envelope can expand to 6 MiB
	defaultSilenceLimit = 45 * time.Second // three of peald's heartbeats
	defaultFirstDelay   = time.Second
	defaultMaxDelay     = 30 * time.Second
	maxRewind           = 1000
	maxTopics           = 100
)

// Option configures a subscription.
type Option func(*config) error

// config is the configuration of a subscription.
type config struct {
	url      *url.URL
	topics   []string
	start    startOption
	position string
	token    func(context.Context) (string, error)
	client   *http.Client // nil for one of the iteration's own
	header   http.Header
	envelope bool
	maxEvent int
	silence  time.Duration // 0 for no limit
	first    time.Duration
	max      time.Duration
	once     bool // without reconnecting
	onOpen   func()
	onRetry  func(err error, delay time.Duration)
}

// startOption is an option that makes streams start in the past.
type startOption struct {
	name, value string // of the query parameter; the name is empty for none
}

func (o startOption) String() string { return o.name + "=" + o.value }

// WithTopics subscribes to topics and patterns, in addition to those in the URL. A
// stream has at most 100.
func WithTopics(topics ...string) Option {
	return func(c *config) error {
		if slices.Contains(topics, "") {
			return errors.New(`WithTopics: topic "" is empty; want a name or a pattern`)
		}
		c.topics = append(c.topics, topics...)
		return nil
	}
}

// WithToken sets the source of subscriber tokens. It is called before the first
// connection, and again after a response with status 401. If the response to the new
// token is a 401 as well, the iteration ends. The source is called by the iteration's
// goroutine and must return when ctx is done. After an error, the client tries again
// later, unless the error is wrapped with [Permanent]. An empty token opens an
// anonymous stream.
func WithToken(source func(ctx context.Context) (string, error)) Option {
	return func(c *config) error {
		if source == nil {
			return errors.New("WithToken: the source is nil; want a function")
		}
		c.token = source
		return nil
	}
}

// WithPosition resumes after the event with this id, usually a stored
// [Subscription.Position]. An empty id has no effect. A position takes precedence over
// WithSince, WithSinceTime, WithSinceAll and WithRewind.
func WithPosition(id string) Option {
	return func(c *config) error {
		if err := checkPosition(id); err != nil {
			return fmt.Errorf("WithPosition: %w", err)
		}
		c.position = id
		return nil
	}
}

// checkPosition returns an error if an id can't be sent in a header.
func checkPosition(id string) error {
	const limit = 1 << 10
	if len(id) > limit {
		return fmt.Errorf("position %q has %d bytes; want at most %d", shortened(id), len(id), limit)
	}
	if !httpguts.ValidHeaderFieldValue(id) || strings.TrimSpace(id) != id {
		return fmt.Errorf("invalid position %q; want an id without control characters or surrounding spaces", id)
	}
	return nil
}

// WithSince starts with the events of the last d. If the history doesn't go back that
// far, the first event is a [Reset].
func WithSince(d time.Duration) Option {
	if d <= 0 {
		return failing("WithSince: duration %s; want more than 0", d)
	}
	return startingAt("since", d.String())
}

// WithSinceTime starts with the events published at t or later. If the history doesn't
// go back that far, the first event is a [Reset].
func WithSinceTime(t time.Time) Option {
	text, err := t.MarshalText()
	if err != nil {
		return failing("WithSinceTime: time %s; want a year from 0 to 9999: %w", t, err)
	}
	return startingAt("since", string(text))
}

// WithSinceAll starts with all events that the history holds.
func WithSinceAll() Option { return startingAt("since", "all") }

// WithRewind starts with the last n events, from 1 to 1000.
func WithRewind(n int) Option {
	if n < 1 || n > maxRewind {
		return failing("WithRewind: %d events; want 1 to %d", n, maxRewind)
	}
	return startingAt("rewind", strconv.Itoa(n))
}

func failing(format string, args ...any) Option {
	return func(*config) error { return fmt.Errorf(format, args...) }
}

func startingAt(name, value string) Option {
	return func(c *config) error {
		start := startOption{name, value}
		if c.start.name != "" {
			return fmt.Errorf("%s and %s are both given; want at most one start", c.start, start)
		}
		c.start = start
		return nil
	}
}

// WithEnvelope asks for envelopes around the data, which contain the audience and the
// time of each event. They aren't part of [Event.Data]. A server that doesn't know
// envelopes causes a [MalformedEventError].
func WithEnvelope() Option {
	return func(c *config) error {
		c.envelope = true
		return nil
	}
}

// WithHTTPClient sets the HTTP client. It must have no timeout, since a stream has no
// end. By default each iteration has its own, with a clone of [http.DefaultTransport].
// Subscriptions with the same HTTP client share HTTP/2 connections.
func WithHTTPClient(client *http.Client) Option {
	return func(c *config) error {
		if client == nil {
			return errors.New("WithHTTPClient: the client is nil; want an *http.Client")
		}
		if client.Timeout != 0 {
			return fmt.Errorf("WithHTTPClient: the client has a timeout of %s; want none, since it would end the stream", client.Timeout)
		}
		c.client = client
		return nil
	}
}

// WithHeader adds header fields to all requests. Accept and Last-Event-ID can't be set,
// and Authorization can't be set together with [WithToken].
func WithHeader(header http.Header) Option {
	return func(c *config) error {
		for name, values := range header {
			switch textproto.CanonicalMIMEHeaderKey(name) {
			case "Accept", "Last-Event-Id":
				return fmt.Errorf("WithHeader: %s can't be set; the client sets it", name)
			}
			if !httpguts.ValidHeaderFieldName(name) {
				return fmt.Errorf("WithHeader: invalid name %q; want a token (RFC 9110)", name)
			}
			for _, value := range values {
				if !httpguts.ValidHeaderFieldValue(value) {
					return fmt.Errorf("WithHeader: the value of %s contains a control character", name) // it may be a secret
				}
				c.header.Add(name, value)
			}
		}
		return nil
	}
}

// WithMaxEventSize sets the limit on the data of an event, in bytes, as it is on the
// wire. The default is 8 MiB. A larger event ends the iteration with an
// [EventTooLargeError].
func WithMaxEventSize(limit int) Option {
	return func(c *config) error {
		if limit < 1 {
			return fmt.Errorf("WithMaxEventSize: %d bytes; want at least 1", limit)
		}
		c.maxEvent = limit
		return nil
	}
}

// WithSilenceLimit sets how long a stream may be silent, and how long a response may
// take, before the client reconnects. It should be three times the server's
// sse.heartbeat. The default is 45 s; 0 means no limit.
func WithSilenceLimit(limit time.Duration) Option {
	return func(c *config) error {
		if limit < 0 {
			return fmt.Errorf("WithSilenceLimit: %s; want 0 or more", limit)
		}
		c.silence = limit
		return nil
	}
}

// WithBackoff sets the range of the random delay before reconnecting, in addition to
// the delay that the server asks for. It is up to first after the first failure; that
// bound is twice as long after each further one, up to limit. The defaults are 1 s and
// 30 s.
func WithBackoff(first, limit time.Duration) Option {
	return func(c *config) error {
		if first <= 0 || limit < first {
			return fmt.Errorf("WithBackoff: %s and %s; want a first delay of more than 0, and a limit that isn't smaller", first, limit)
		}
		c.first, c.max = first, limit
		return nil
	}
}

// WithoutReconnect ends the iteration with an error when the connection breaks or the
// server closes the stream ([ErrClosed]).
func WithoutReconnect() Option {
	return func(c *config) error {
		c.once = true
		return nil
	}
}

// WithOnOpen sets a function that is called when a stream has been opened, before
// anything is read from it. It is called by the iteration's goroutine.
func WithOnOpen(f func()) Option {
	return func(c *config) error {
		c.onOpen = f
		return nil
	}
}

// WithOnRetry sets a function that is called before the client waits to reconnect, with
// the reason and the delay. It is called by the iteration's goroutine.
func WithOnRetry(f func(err error, delay time.Duration)) Option {
	return func(c *config) error {
		c.onRetry = f
		return nil
	}
}

// newConfig returns the configuration for a stream at address.
func newConfig(address string, options []Option) (config, error) {
	c := config{
		header: http.Header{}, maxEvent: defaultMaxEventSize, silence: defaultSilenceLimit,
		first: defaultFirstDelay, max: defaultMaxDelay,
		onOpen: func() {}, onRetry: func(error, time.Duration) {},
	}
	for _, option := range options {
		if err := option(&c); err != nil {
			return config{}, err
		}
	}
	if c.token != nil && c.header.Get("Authorization") != "" {
		return config{}, errors.New("WithToken and an Authorization in WithHeader are both given; want one of them")
	}
	return c, c.setURL(address)
}

// setURL sets the URL, with the query parameters that the options require.
func (c *config) setURL(address string) error {
	parsed, err := url.Parse(address)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return fmt.Errorf("invalid URL %q: %w", address, err)
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return fmt.Errorf("invalid URL %q; want an http:// or https:// URL, such as https://example.com/events", address)
	}

	query, err := url.ParseQuery(parsed.RawQuery)
	if err != nil {
		return fmt.Errorf("invalid query in URL %q: %w", address, err)
	}
	for _, name := range []string{"last_event_id", "since", "rewind"} {
		if c.start.name != "" && query.Has(name) {
			return fmt.Errorf("%s is given, and the URL has %s=%s; want at most one start", c.start, name, shortened(query.Get(name)))
		}
	}
	if c.start.name != "" {
		query.Set(c.start.name, c.start.value)
	}
	if query["topic"] = append(query["topic"], c.topics...); len(query["topic"]) > maxTopics {
		return fmt.Errorf("%d topics; want at most %d", len(query["topic"]), maxTopics)
	}
	if c.envelope {
		query.Set("envelope", "1")
	}

	parsed.RawQuery, parsed.Fragment = query.Encode(), ""
	c.url = parsed
	return nil
}

// redacted returns the URL for error messages, without the parts that may contain
// secrets.
func (c *config) redacted() string {
	address := *c.url
	address.User, address.RawQuery = nil, ""
	return address.String()
}
