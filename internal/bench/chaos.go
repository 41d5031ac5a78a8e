package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ChaosConfig configures a chaos trial, which checks that no messages are lost
// when connections are cut.
type ChaosConfig struct {
	URL      string
	Clients  int           // number of streams, each with its own user and one topic
	Topics   int           // number of topics that the clients share
	Rate     float64       // messages per second
	Duration time.Duration // how long to publish

	// Broadcasts and ToTopics are the shares of messages to everyone and to a
	// topic. All other messages go to single users.
	Broadcasts, ToTopics float64

	// Life is the mean lifetime of a connection. At the end of its lifetime, a
	// connection is cut, even in the middle of an event.
	Life time.Duration

	// Patience is the time to wait for another arrival, once the last message has
	// been published, before missing messages count as lost.
	Patience time.Duration

	TLS   *tls.Config // for an https URL
	HTTP2 bool        // use HTTP/2, with a connection for each stream

	// Progress, if not nil, is called repeatedly.
	Progress func(ChaosProgress)
}

// ChaosProgress describes the progress of a chaos trial.
type ChaosProgress struct {
	Connected           int
	Published, Messages int
	Cuts, Received      int64
}

// ChaosPublisher publishes messages to the server. Its methods are called by one
// goroutine at a time.
type ChaosPublisher interface {
	// Publish sends data to user, to topic, or to everyone if both are empty. It
	// may return before the server has accepted the message. Messages must be
	// published in the order of the calls.
	Publish(ctx context.Context, user, topic, data string) error
	// Flush waits until the server has accepted all published messages.
	Flush(ctx context.Context) error
	// Token returns a token for one of user's streams, which may subscribe to
	// topic.
	Token(ctx context.Context, user, topic string) (string, error)
}

// ChaosResult is the result of a chaos trial.
type ChaosResult struct {
	Clients   int     `json:"clients"`
	Published int     `json:"published"`
	Seconds   float64 `json:"seconds"`
	Rate      float64 `json:"published_per_second"`
	Cuts      int64   `json:"cuts"`
	Expected  int64   `json:"expected"`
	Received  int64   `json:"received"`
	Resets    int64   `json:"resets"`  // streams that received a peald.reset, which announces a gap
	Rejected  int64   `json:"refused"` // connections that failed although the client didn't cut them

	// LastRejection is the error from the last such connection.
	LastRejection string `json:"last_refusal,omitempty"`

	Lost        int64 `json:"lost"`
	Duplicated  int64 `json:"doubled"`
	OutOfOrder  int64 `json:"out_of_order"`
	Misdirected int64 `json:"misdirected"`

	// Readers holds separate results for each way in which clients choose the ID to
	// resume from. The "every_id" half keeps the ID of every block, as Chromium
	// does. The "dispatched_ids" half keeps those of dispatched events, as Firefox
	// and WebKitGTK do.
	Readers map[string]ChaosReader `json:"readers"`
}

// ChaosReader holds the results of a chaos trial for one kind of client.
type ChaosReader struct {
	Clients    int   `json:"clients"`
	Expected   int64 `json:"expected"`
	Lost       int64 `json:"lost"`
	Duplicated int64 `json:"doubled"`
}

// Faults describes the delivery errors. It returns "" if there are none.
func (r *ChaosResult) Faults() string {
	if r.Lost+r.Duplicated+r.OutOfOrder+r.Misdirected+r.Resets == 0 {
		return ""
	}
	return fmt.Sprintf("%d messages lost, %d duplicated, %d out of order, %d misdirected; %d streams got a peald.reset",
		r.Lost, r.Duplicated, r.OutOfOrder, r.Misdirected, r.Resets)
}

// chaos is a chaos trial in progress.
type chaos struct {
	cfg       ChaosConfig
	publisher ChaosPublisher
	run       string // identifies the messages of the trial
	clients   []*chaosClient

	connected, cuts, received, resets, rejected atomic.Int64
	settling                                    atomic.Bool // no more cuts
	rejection                                   atomic.Pointer[error]

	// Message numbers by audience, ascending. The publishing goroutine owns them
	// until the clients have stopped.
	toAll    []int
	toUser   [][]int // by client
	toTopic  [][]int // by topic
	messages int
}

// Chaos opens streams and publishes messages to all kinds of audiences. While it
// publishes, it cuts connections at random and resumes the streams. It checks that
// each client receives its messages exactly once and in order.
func Chaos(ctx context.Context, cfg ChaosConfig, publisher ChaosPublisher) (*ChaosResult, error) {
	messages := int(cfg.Rate * cfg.Duration.Seconds())
	if cfg.Clients < 1 || cfg.Topics < 1 || messages < 1 || cfg.Life <= 0 {
		return nil, errors.New("chaos requires at least one client, one topic and one message, and a positive life")
	}

	address, err := parseTrialURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	if err := checkDescriptors(cfg.Clients, cfg.Clients); err != nil {
		return nil, err
	}

	c := &chaos{
		cfg: cfg, publisher: publisher, run: strconv.FormatUint(rand.Uint64(), 36),
		toUser: make([][]int, cfg.Clients), toTopic: make([][]int, cfg.Topics),
	}
	for i := range cfg.Clients {
		topic := "bench." + c.run + "." + strconv.Itoa(i%cfg.Topics)
		token, err := publisher.Token(ctx, c.user(i), topic)
		if err != nil {
			return nil, fmt.Errorf("create a token: %w", err)
		}
		stream := newResumable(address, transport{cfg.TLS, cfg.HTTP2}, token, topic)
		stream.keeps = keeps(i % 2)
		c.clients = append(c.clients, &chaosClient{chaos: c, stream: stream, prefix: "chaos " + c.run + " "})
	}

	return c.start(ctx, messages)
}

func (c *chaos) user(i int) string { return "bench-" + c.run + "-" + strconv.Itoa(i) }

// start runs the trial with the prepared clients.
func (c *chaos) start(ctx context.Context, messages int) (*ChaosResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	for _, client := range c.clients {
		running.Go(func() { client.run(ctx) })
	}

	deadline := time.Now().Add(openPatience)
	all := func() bool { return int(c.connected.Load()) == len(c.clients) }
	// If nothing listens at the address, there is no point in waiting.
	none := func() bool { return c.connected.Load() == 0 && int(c.rejected.Load()) >= len(c.clients) }
	if err := c.until(ctx, func() bool { return all() || none() || time.Now().After(deadline) }); err != nil {
		return nil, err
	}
	if none() {
		return nil, fmt.Errorf("none of %d streams at %s could be opened: %w", len(c.clients), redacted(c.cfg.URL), c.lastRejection())
	}
	if !all() {
		return nil, fmt.Errorf("only %d of %d streams at %s opened within %s: %w", c.connected.Load(), len(c.clients), redacted(c.cfg.URL), openPatience, c.lastRejection())
	}

	begin := time.Now()
	if err := c.publish(ctx, messages); err != nil {
		return nil, err
	}

	took := time.Since(begin)
	c.settling.Store(true)
	expected := c.expected()
	last, since := int64(-1), time.Now()

	err := c.until(ctx, func() bool {
		if n := c.received.Load(); n != last {
			last, since = n, time.Now()
		}
		return last >= expected || time.Since(since) > c.cfg.Patience
	})
	if err != nil {
		return nil, err
	}

	cancel()
	running.Wait()
	return c.result(took, expected), nil
}

// openPatience is the time limit for opening all streams at the beginning.
const openPatience = 20 * time.Second

// lastRejection returns the most recent error from a stream.
func (c *chaos) lastRejection() error {
	if err := c.rejection.Load(); err != nil {
		return *err
	}
	return errors.New("no response")
}

// until polls until cond holds, and reports progress.
func (c *chaos) until(ctx context.Context, cond func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		c.reportProgress()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func (c *chaos) reportProgress() {
	if c.cfg.Progress != nil {
		c.cfg.Progress(ChaosProgress{
			Connected: int(c.connected.Load()), Published: c.messages,
			Messages: int(c.cfg.Rate * c.cfg.Duration.Seconds()), Cuts: c.cuts.Load(), Received: c.received.Load(),
		})
	}
}

// publish publishes messages at the configured rate. If the rate is too high for
// the resolution of timers, it publishes them in batches.
func (c *chaos) publish(ctx context.Context, messages int) error {
	begin := time.Now()
	reported := begin

	for n := range messages {
		due := begin.Add(time.Duration(float64(n) / c.cfg.Rate * float64(time.Second)))
		if wait := time.Until(due); wait > time.Millisecond {
			if err := c.publisher.Flush(ctx); err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(wait):
			}
		}

		var user, topic string
		switch at := rand.Float64(); {
		case at < c.cfg.Broadcasts:
			c.toAll = append(c.toAll, n)
		case at < c.cfg.Broadcasts+c.cfg.ToTopics:
			i := rand.IntN(c.cfg.Topics)
			topic = "bench." + c.run + "." + strconv.Itoa(i)
			c.toTopic[i] = append(c.toTopic[i], n)
		default:
			i := rand.IntN(len(c.clients))
			user = c.user(i)
			c.toUser[i] = append(c.toUser[i], n)
		}

		data := "chaos " + c.run + " " + strconv.Itoa(n) + " " + strings.Repeat("x", rand.IntN(200))
		if err := c.publisher.Publish(ctx, user, topic, data); err != nil {
			return fmt.Errorf("publish: %w", err)
		}

		c.messages = n + 1
		if time.Since(reported) > 100*time.Millisecond {
			reported = time.Now()
			c.reportProgress()
		}
	}

	if err := c.publisher.Flush(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}

	return nil
}

// expected returns the number of deliveries to all clients.
func (c *chaos) expected() int64 {
	var n int
	for i := range c.clients {
		n += len(c.toAll) + len(c.toUser[i]) + len(c.toTopic[i%c.cfg.Topics])
	}
	return int64(n)
}

// result compares the messages that the clients received with those that they
// should have received.
func (c *chaos) result(took time.Duration, expected int64) *ChaosResult {
	r := &ChaosResult{
		Clients: len(c.clients), Published: c.messages, Seconds: took.Seconds(), Rate: float64(c.messages) / took.Seconds(),
		Cuts: c.cuts.Load(), Expected: expected, Received: c.received.Load(), Resets: c.resets.Load(), Rejected: c.rejected.Load(),
		Readers: make(map[string]ChaosReader),
	}
	if r.Rejected > 0 {
		r.LastRejection = c.lastRejection().Error()
	}
	for i, client := range c.clients {
		want := slices.Concat(c.toAll, c.toUser[i], c.toTopic[i%c.cfg.Topics])
		slices.Sort(want)

		if !slices.IsSorted(client.got) {
			r.OutOfOrder++
		}

		got := slices.Clone(client.got)
		slices.Sort(got)
		distinct := slices.Compact(slices.Clone(got))
		duplicated := int64(len(got) - len(distinct))
		common := 0

		for _, n := range distinct {
			if _, ok := slices.BinarySearch(want, n); ok {
				common++
			} else {
				r.Misdirected++
			}
		}

		lost := int64(len(want) - common)
		r.Lost += lost
		r.Duplicated += duplicated

		of := r.Readers[client.stream.keeps.String()]
		of.Clients++
		of.Expected += int64(len(want))
		of.Lost += lost
		of.Duplicated += duplicated
		r.Readers[client.stream.keeps.String()] = of
	}

	return r
}
