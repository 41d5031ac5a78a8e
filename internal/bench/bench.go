// Package bench measures an event stream server from the outside. It opens many
// streams, publishes messages that carry a sequence number and a timestamp, and
// checks that every stream receives each message exactly once, in order and
// undamaged.
//
// On Linux a single goroutine reads many thousand streams with epoll, so that the
// load generator costs less than the server it measures. On other systems each
// stream is a goroutine with a net/http connection.
package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Load describes the messages to publish. Either Rate and Duration or Burst must
// be set.
type Load struct {
	Size     int           // bytes of data per message, at least MinSize; 0 means 100
	Rate     float64       // messages per second
	Duration time.Duration // how long to publish at Rate
	Burst    int           // number of messages to publish without pauses, instead of Rate and Duration
}

// Config configures a measurement. Clients and URL must be set. [Measure]
// requires a load as well.
type Config struct {
	URL     string
	Header  http.Header // sent with the request for every stream
	Clients int         // number of streams that read events and are checked

	// Slow is the number of additional streams that never read. The result counts
	// how many of them the server closed. They aren't included in the deliveries.
	Slow int

	// Users is the number of users to spread the streams over. Each message is
	// sent to one user, in rotation. If zero, messages are broadcasts.
	Users int

	Load

	// AtOnce is the number of streams to open concurrently. 0 means 500, or 100
	// over TLS, whose handshakes would otherwise wait for so long that a busy
	// server gives up.
	AtOnce int

	// Sources is the number of source addresses in 127.0.0.0/8 for a server on
	// the loopback interface. 0 means as many as the streams need ports.
	Sources int

	// Patience is the time to wait for another arrival, once the last message has
	// been published, before missing messages count as lost; 0 means 10s.
	Patience time.Duration

	// Readers is the number of reading goroutines, unless each stream has its
	// own; 0 means one per four cores, at least one.
	Readers int

	// Portable selects the implementation with a goroutine per stream.
	Portable bool

	// TLS is used for an https URL. Streams resume each other's TLS sessions if it
	// has a session cache. Otherwise all handshakes are full ones.
	TLS *tls.Config

	// HTTP2 selects HTTP/2: with prior knowledge for an http URL (h2c), and
	// negotiated for an https URL. PerConnection is the number of streams per
	// connection; 0 means one. More require HTTP2.
	HTTP2         bool
	PerConnection int

	// Poll selects long polling instead of streams: each client sends requests for
	// JSON, one after another. It excludes Slow and PerConnection. With HTTP2 the
	// clients are portable.
	Poll bool

	// Unwrap returns the message in the data of an event, for servers that add
	// something to it; nil means the data itself.
	Unwrap func(data []byte) []byte

	// Shared is set if other processes hold streams of the same run. All of them
	// must measure the same load, and the Publisher of all but one must do
	// nothing.
	Shared Shared

	// Progress, if not nil, is called repeatedly by the goroutine of Measure.
	Progress func(Progress)
}

// Progress describes the progress of a measurement.
type Progress struct {
	Opened, Streams     int
	Delivered, Expected int64
}

// Publisher publishes messages to the server. Its methods are called by one
// goroutine at a time.
type Publisher interface {
	// Publish sends data to user, or to everyone if user is empty. It must not
	// return before the server has accepted the message.
	Publish(ctx context.Context, user, data string) error

	// Token returns the bearer token for one of user's streams.
	Token(ctx context.Context, user string) (string, error)
}

// MinSize is the size of a message that consists only of its header.
const MinSize = headerSize

func (cfg *Config) fill() {
	if cfg.AtOnce == 0 {
		cfg.AtOnce = 500
		if strings.HasPrefix(cfg.URL, "https:") {
			cfg.AtOnce = 100
		}
	}
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.PerConnection == 0 {
		cfg.PerConnection = 1
	}
}

func (cfg *Config) validate() (*url.URL, error) {
	address, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}

	switch {
	case address.Host == "" || (address.Scheme != "http" && address.Scheme != "https"):
		return nil, fmt.Errorf("url: invalid URL %q; want an http or https URL", cfg.URL)
	case cfg.Clients < 1:
		return nil, fmt.Errorf("clients: %d; want at least 1", cfg.Clients)
	case cfg.Slow < 0, cfg.Users < 0, cfg.AtOnce < 0, cfg.Sources < 0, cfg.Readers < 0, cfg.PerConnection < 0:
		return nil, errors.New("slow, users, at-once, sources, readers and streams-per-connection must not be negative")
	case cfg.PerConnection > 1 && !cfg.HTTP2:
		return nil, fmt.Errorf("streams-per-connection: %d; want 1, or HTTP/2 (http2)", cfg.PerConnection)
	case cfg.Poll && (cfg.Slow > 0 || cfg.PerConnection > 1):
		return nil, errors.New("poll: slow and streams-per-connection apply to streams only; want neither")
	case cfg.Users > cfg.Clients:
		return nil, fmt.Errorf("users: %d; want at most one per client (%d)", cfg.Users, cfg.Clients)
	case cfg.Sources > maxSources:
		return nil, fmt.Errorf("sources: %d; want at most %d", cfg.Sources, maxSources)
	}

	return address, nil
}

// redacted returns a stream URL for error messages, without the user and the query,
// which may contain secrets.
func redacted(stream string) string {
	address, err := url.Parse(stream)
	if err != nil {
		return "a malformed URL"
	}
	address.User, address.RawQuery, address.Fragment = nil, "", ""
	return address.String()
}

func (l *Load) fill() error {
	if l.Size == 0 {
		l.Size = 100
	}
	switch {
	case l.Burst < 0:
		return fmt.Errorf("burst: %d; want a number of messages", l.Burst)
	case l.Size < MinSize:
		return fmt.Errorf("size: %d; want at least %d bytes, the size of a message header", l.Size, MinSize)
	case l.messages() < 1:
		return errors.New("rate and duration result in less than one message; want at least one, or a burst")
	}
	return nil
}

func (l *Load) messages() int {
	if l.Burst > 0 {
		return l.Burst
	}
	return int(l.Rate * l.Duration.Seconds())
}

func (cfg *Config) streams() int { return cfg.Clients + cfg.Slow }

// connections returns the number of connections.
func (cfg *Config) connections() int {
	n := max(1, cfg.PerConnection)
	return (cfg.Clients+n-1)/n + (cfg.Slow+n-1)/n
}

// Measure opens the streams of cfg, publishes its load and closes the streams.
// Delivery errors are part of the result; an error means that there is none.
func Measure(ctx context.Context, cfg Config, publisher Publisher) (*Result, error) {
	if err := cfg.Load.fill(); err != nil {
		return nil, err
	}

	streams, err := Open(ctx, cfg, publisher)
	if err != nil {
		return nil, err
	}
	defer streams.Close()

	result, err := streams.Measure(ctx, cfg.Load)
	if err != nil {
		return nil, err
	}

	streams.Close()
	if cfg.Slow > 0 {
		result.SlowEnded = streams.run.pool.slowClosed()
	}

	return result, nil
}

// Streams is a set of open streams on which several loads can be measured, one
// after another. It must be used by one goroutine at a time.
type Streams struct {
	run    *run
	cancel context.CancelFunc
}

// Open opens the streams that cfg describes. The caller must close them.
func Open(ctx context.Context, cfg Config, publisher Publisher) (*Streams, error) {
	cfg.fill()
	address, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	if err := checkDescriptors(cfg.streams(), cfg.connections()); err != nil {
		return nil, err
	}

	r := &run{cfg: cfg, publisher: publisher, payloads: newPayloads(cfg.Shared, cfg.Unwrap), sent: make([]uint32, cfg.Users+1)}
	if err := r.prepare(ctx, address); err != nil {
		return nil, err
	}

	held, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Streams{run: r, cancel: cancel}

	if r.pool, err = r.newPool(held, address); err != nil {
		cancel()
		return nil, err
	}

	if err := r.open(ctx); err != nil {
		s.Close()
		return nil, err
	}

	return s, nil
}

// Measure publishes load and waits until all messages have arrived, or nothing
// has arrived for the configured patience.
func (s *Streams) Measure(ctx context.Context, load Load) (*Result, error) {
	if err := load.fill(); err != nil {
		return nil, err
	}
	before := s.run.begin(load)
	if err := s.run.publishAndWait(ctx); err != nil {
		return nil, err
	}
	return s.run.result(before), nil
}

// Close closes the streams and waits for their goroutines. Further calls have no
// effect.
func (s *Streams) Close() {
	s.run.pool.close()
	s.cancel()
}

// userName returns the name of the user with this number, starting at one.
func userName(number int) string { return "bench-" + strconv.Itoa(number) }
