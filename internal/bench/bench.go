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

// Config says what is measured. Clients, URL and one of Rate and Burst must be
// set.
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

	Size     int           // bytes of a message's data, at least MinSize; 100 where zero
	Rate     float64       // messages a second
	Duration time.Duration // for how long messages are published at Rate
	Burst    int           // instead: so many messages, one right after the other

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
	if cfg.Size == 0 {
		cfg.Size = 100
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
	case cfg.Slow < 0, cfg.Users < 0, cfg.AtOnce < 0, cfg.Sources < 0, cfg.Readers < 0, cfg.Burst < 0:
		return nil, errors.New("a number of slow streams, users, connections at once, sources, readers or messages can't be negative")
	case cfg.Users > cfg.Clients:
		return nil, fmt.Errorf("users: %d, and with %d clients some would have no stream", cfg.Users, cfg.Clients)
	case cfg.Size < MinSize:
		return nil, fmt.Errorf("size: %d, and what a message must carry takes %d bytes", cfg.Size, MinSize)
	case cfg.messages() < 1:
		return nil, errors.New("rate and duration make less than one message, and no burst is asked for")
	case cfg.Sources > maxSources:
		return nil, fmt.Errorf("sources: %d, at most %d are accepted", cfg.Sources, maxSources)
	}
	return address, nil
}

func (cfg *Config) messages() int {
	if cfg.Burst > 0 {
		return cfg.Burst
	}
	return int(cfg.Rate * cfg.Duration.Seconds())
}

func (cfg *Config) streams() int { return cfg.Clients + cfg.Slow }

// Measure runs one measurement. What it found wrong is in the result; an error
// is why there is none.
func Measure(ctx context.Context, cfg Config, publisher Publisher) (*Result, error) {
	cfg.fill()
	address, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	if err := enoughDescriptors(cfg.streams()); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, publisher: publisher, payloads: newPayloads(cfg.Size), sent: make([]uint32, cfg.Users+1)}
	if err := r.prepare(ctx, address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	herd, err := r.newHerd(ctx, address)
	if err != nil {
		return nil, err
	}
	r.herd = herd
	defer herd.close()

	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if err := r.publishAndWait(ctx); err != nil {
		return nil, err
	}
	herd.close()
	return r.result(herd.slowEnded()), nil
}

// userName is the name of the user with this number, counted from one.
func userName(number int) string { return "bench-" + strconv.Itoa(number) }
