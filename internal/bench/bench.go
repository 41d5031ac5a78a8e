// Package bench measures a server of event streams from outside: it holds many
// streams, publishes messages that carry their number and time of sending, and
// checks on every stream that each message came exactly once, in order and
// whole.
//
// On Linux one goroutine holds many thousand plain-HTTP streams on an epoll
// set: a load generator that costs more than the server would measure itself.
// Elsewhere, and over TLS, a stream is a goroutine on net/http.
package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Load says what is published. One of Rate and Burst must be set.
type Load struct {
	Size     int           // bytes of a message's data, at least MinSize; 100 where zero
	Rate     float64       // messages a second
	Duration time.Duration // for how long messages are published at Rate
	Burst    int           // instead: so many messages, one right after the other
}

// Config says what is measured. Clients, URL and a load must be set, the load
// only for [Measure].
type Config struct {
	URL     string
	Header  http.Header // sent for every stream
	Clients int         // streams that read, and are checked

	// Slow is how many streams there are besides that never read. What becomes
	// of them is told, and nothing is expected.
	Slow int

	// Users is how many users the streams belong to, by turns; each message
	// then goes to one user, by turns too. Zero: every message to everybody.
	Users int

	Load

	// AtOnce is how many streams are being opened at a time, 500 where zero.
	AtOnce int

	// Sources is how many addresses of 127.0.0.0/8 the streams come from, as
	// many as their ports need where zero. It is for a server on the loopback.
	Sources int

	// Patience is for how long nothing may arrive, after the last message has
	// been published, until what is missing counts as lost; 10s where zero.
	Patience time.Duration

	// Readers is how many goroutines read, where not each stream has its own;
	// one, or more on a large machine, where zero.
	Readers int

	// Portable has streams held as on any system, a goroutine each.
	Portable bool

	TLS *tls.Config // for an https URL

	// Shared is set where other processes hold streams of the same run. Each is
	// then told the same load, and a Publisher of those that don't publish does
	// nothing.
	Shared Shared

	// Progress is called now and then, if not nil, by the goroutine of Measure.
	Progress func(Progress)
}

// Progress is how far a measurement has come.
type Progress struct {
	Opened, Streams     int
	Delivered, Expected int64
}

// Publisher is the way into the server.
type Publisher interface {
	// Publish sends data to everybody, or to user if not empty. The server has
	// it when Publish returns: one is called after the other.
	Publish(ctx context.Context, user, data string) error

	// Token returns what a stream of user sends as Authorization: Bearer.
	Token(ctx context.Context, user string) (string, error)
}

// MinSize is the size of a message that is nothing but its header.
const MinSize = headerSize

func (cfg *Config) fill() {
	if cfg.AtOnce == 0 {
		cfg.AtOnce = 500
	}
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
}

func (cfg *Config) validate() (*url.URL, error) {
	address, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}

	switch {
	case address.Host == "" || (address.Scheme != "http" && address.Scheme != "https"):
		return nil, fmt.Errorf("url: %q is no http or https address", cfg.URL)
	case cfg.Clients < 1:
		return nil, fmt.Errorf("clients: %d, and at least one is needed", cfg.Clients)
	case cfg.Slow < 0, cfg.Users < 0, cfg.AtOnce < 0, cfg.Sources < 0, cfg.Readers < 0:
		return nil, errors.New("a number of slow streams, users, connections at once, sources or readers can't be negative")
	case cfg.Users > cfg.Clients:
		return nil, fmt.Errorf("users: %d, and with %d clients some would have no stream", cfg.Users, cfg.Clients)
	case cfg.Sources > maxSources:
		return nil, fmt.Errorf("sources: %d, at most %d are accepted", cfg.Sources, maxSources)
	}

	return address, nil
}

// place returns the URL of streams as errors name it: without user and query,
// which may hold secrets.
func place(streams string) string {
	address, err := url.Parse(streams)
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
		return fmt.Errorf("burst: %d, and a number of messages can't be negative", l.Burst)
	case l.Size < MinSize:
		return fmt.Errorf("size: %d, and what a message must carry takes %d bytes", l.Size, MinSize)
	case l.messages() < 1:
		return errors.New("rate and duration make less than one message, and no burst is asked for")
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

// Measure runs one measurement: it opens the streams, publishes the
// configuration's load and closes them. What it found wrong is in the result;
// an error is why there is none.
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
		result.SlowEnded = streams.run.herd.slowEnded()
	}

	return result, nil
}

// Streams are held open, so that one load after the other can be measured on
// them. Only one goroutine may use them at a time.
type Streams struct {
	run    *run
	cancel context.CancelFunc
}

// Open opens the streams of a configuration. They are to be closed.
func Open(ctx context.Context, cfg Config, publisher Publisher) (*Streams, error) {
	cfg.fill()
	address, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	if err := enoughDescriptors(cfg.streams()); err != nil {
		return nil, err
	}

	r := &run{cfg: cfg, publisher: publisher, payloads: newPayloads(cfg.Shared), sent: make([]uint32, cfg.Users+1)}
	if err := r.prepare(ctx, address); err != nil {
		return nil, err
	}

	held, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Streams{run: r, cancel: cancel}

	if r.herd, err = r.newHerd(held, address); err != nil {
		cancel()
		return nil, err
	}

	if err := r.open(ctx); err != nil {
		s.Close()
		return nil, err
	}

	return s, nil
}

// Measure publishes a load and waits until everything has arrived that will.
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

// Close ends the streams, and returns when nothing is left of them. To close
// them again does nothing.
func (s *Streams) Close() {
	s.run.herd.close()
	s.cancel()
}

// userName is the name of the user with this number, counted from one.
func userName(number int) string { return "bench-" + strconv.Itoa(number) }
