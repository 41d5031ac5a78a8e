package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ChaosConfig says how a server's promise is tried that nothing is lost when
// connections are.
type ChaosConfig struct {
	URL      string
	Clients  int           // streams, each of a user of its own and subscribed to one topic
	Topics   int           // topics that the clients share
	Rate     float64       // messages a second
	Duration time.Duration // for how long messages are published

	// Broadcasts and ToTopics are the shares of messages for everybody and for
	// a topic; the rest is for single users.
	Broadcasts, ToTopics float64

	// Life is how long a connection is kept on average before it is cut, in
	// the middle of whatever is under way.
	Life time.Duration

	// Patience is for how long nothing may arrive, after the last message,
	// until what is missing counts as lost.
	Patience time.Duration

	// Progress is called now and then, if not nil.
	Progress func(ChaosProgress)
}

// ChaosProgress is how far a trial has come.
type ChaosProgress struct {
	Connected           int
	Published, Messages int
	Cuts, Received      int64
}

// ChaosPublisher is the way into the server.
type ChaosPublisher interface {
	// Publish sends data to user, or to topic, or where both are empty to
	// everybody. It may return before the server has it; the order of calls is
	// that of publication.
	Publish(ctx context.Context, user, topic, data string) error
	// Flush returns when the server has all that was published.
	Flush(ctx context.Context) error
	// Token returns a token for a stream of user that may subscribe to topic.
	Token(ctx context.Context, user, topic string) (string, error)
}

// ChaosResult is what a trial found.
type ChaosResult struct {
	Clients   int     `json:"clients"`
	Published int     `json:"published"`
	Seconds   float64 `json:"seconds"`
	Rate      float64 `json:"published_per_second"`
	Cuts      int64   `json:"cuts"`
	Expected  int64   `json:"expected"`
	Received  int64   `json:"received"`
	Resets    int64   `json:"resets"` // streams that were told of a hole
	Refused   int64   `json:"refused"`

	Lost       int64 `json:"lost"`
	Doubled    int64 `json:"doubled"`
	OutOfOrder int64 `json:"out_of_order"`
	Misrouted  int64 `json:"misdirected"`

	// Readers are the results by what clients resume from: "every_id" is the
	// half that keeps the id of every block, as Chromium does, and
	// "dispatched_ids" the half that keeps those of dispatched events, as
	// Firefox and WebKitGTK do.
	Readers map[string]ChaosReader `json:"readers"`
}

// ChaosReader holds the results of a trial for one kind of client.
type ChaosReader struct {
	Clients  int   `json:"clients"`
	Expected int64 `json:"expected"`
	Lost     int64 `json:"lost"`
	Doubled  int64 `json:"doubled"`
}

// Faults says in a sentence what went wrong, or nothing.
func (r *ChaosResult) Faults() string {
	if r.Lost+r.Doubled+r.OutOfOrder+r.Misrouted+r.Resets == 0 {
		return ""
	}
	return fmt.Sprintf("%d messages lost, %d doubled, %d out of order, %d misdirected; %d streams were told of a hole",
		r.Lost, r.Doubled, r.OutOfOrder, r.Misrouted, r.Resets)
}

// chaos is one trial.
type chaos struct {
	cfg     ChaosConfig
	pub     ChaosPublisher
	run     string // tells the trial's messages from others
	clients []*chaosClient

	connected, cuts, received, resets, refused atomic.Int64
	over                                       atomic.Bool // no more cuts
	refusal                                    atomic.Pointer[error]

	// The messages in order: whom each is for. Only the publishing goroutine
	// appends, and the others read at the end.
	toAll    []int
	toUser   [][]int // by client
	toTopic  [][]int // by topic
	messages int
}

// Chaos opens streams, cuts their connections at random while messages of all
// audiences are published, lets them resume, and checks that each client got
// what was for it, once and in order.
func Chaos(ctx context.Context, cfg ChaosConfig, publisher ChaosPublisher) (*ChaosResult, error) {
	messages := int(cfg.Rate * cfg.Duration.Seconds())
	if cfg.Clients < 1 || cfg.Topics < 1 || messages < 1 || cfg.Life <= 0 {
		return nil, errors.New("chaos takes at least one client, one topic and one message, and connections with a life")
	}

	address, err := url.Parse(cfg.URL)
	if err != nil || address.Scheme != "http" {
		return nil, fmt.Errorf("url: %q is no http address", cfg.URL)
	}
	if err := enoughDescriptors(cfg.Clients); err != nil {
		return nil, err
	}

	c := &chaos{
		cfg: cfg, pub: publisher, run: strconv.FormatUint(rand.Uint64(), 36),
		toUser: make([][]int, cfg.Clients), toTopic: make([][]int, cfg.Topics),
	}
	for i := range cfg.Clients {
		topic := "bench." + c.run + "." + strconv.Itoa(i%cfg.Topics)
		token, err := publisher.Token(ctx, c.user(i), topic)
		if err != nil {
			return nil, fmt.Errorf("token of a client: %w", err)
		}
		stream := newResumable(address, token, topic)
		stream.keeps = keeps(i % 2)
		c.clients = append(c.clients, &chaosClient{chaos: c, stream: stream, prefix: "chaos " + c.run + " "})
	}

	return c.try(ctx, messages)
}

func (c *chaos) user(i int) string { return "bench-" + c.run + "-" + strconv.Itoa(i) }

// try runs the trial over clients that are ready.
func (c *chaos) try(ctx context.Context, messages int) (*ChaosResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	for _, client := range c.clients {
		running.Go(func() { client.run(ctx) })
	}

	late := time.Now().Add(openPatience)
	all := func() bool { return int(c.connected.Load()) == len(c.clients) }
	// Where nothing listens, waiting doesn't help.
	none := func() bool { return c.connected.Load() == 0 && int(c.refused.Load()) >= len(c.clients) }
	if err := c.until(ctx, func() bool { return all() || none() || time.Now().After(late) }); err != nil {
		return nil, err
	}
	if none() {
		return nil, fmt.Errorf("none of %d streams at %s could be opened: %w", len(c.clients), place(c.cfg.URL), c.lastRefusal())
	}
	if !all() {
		return nil, fmt.Errorf("%d of %d streams at %s were open after %s: %w", c.connected.Load(), len(c.clients), place(c.cfg.URL), openPatience, c.lastRefusal())
	}

	begin := time.Now()
	if err := c.publish(ctx, messages); err != nil {
		return nil, err
	}

	took := time.Since(begin)
	c.over.Store(true)
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

// openPatience is how long the streams are given to open at the beginning.
const openPatience = 20 * time.Second

// lastRefusal is why one of the streams could not be opened.
func (c *chaos) lastRefusal() error {
	if err := c.refusal.Load(); err != nil {
		return *err
	}
	return errors.New("no answer")
}

// until polls until cond holds, and tells of progress.
func (c *chaos) until(ctx context.Context, cond func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		c.progress()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func (c *chaos) progress() {
	if c.cfg.Progress != nil {
		c.cfg.Progress(ChaosProgress{
			Connected: int(c.connected.Load()), Published: c.messages,
			Messages: int(c.cfg.Rate * c.cfg.Duration.Seconds()), Cuts: c.cuts.Load(), Received: c.received.Load(),
		})
	}
}

// publish publishes messages at the configured rate, in bunches where the rate
// is higher than timers are fine.
func (c *chaos) publish(ctx context.Context, messages int) error {
	begin := time.Now()
	told := begin

	for n := range messages {
		due := begin.Add(time.Duration(float64(n) / c.cfg.Rate * float64(time.Second)))
		if wait := time.Until(due); wait > time.Millisecond {
			if err := c.pub.Flush(ctx); err != nil {
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
		if err := c.pub.Publish(ctx, user, topic, data); err != nil {
			return fmt.Errorf("publish: %w", err)
		}

		c.messages = n + 1
		if time.Since(told) > 100*time.Millisecond {
			told = time.Now()
			c.progress()
		}
	}

	if err := c.pub.Flush(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}

	return nil
}

// expected counts all that the clients are to receive.
func (c *chaos) expected() int64 {
	var n int
	for i := range c.clients {
		n += len(c.toAll) + len(c.toUser[i]) + len(c.toTopic[i%c.cfg.Topics])
	}
	return int64(n)
}

// result compares what the clients got with what was for them.
func (c *chaos) result(took time.Duration, expected int64) *ChaosResult {
	r := &ChaosResult{
		Clients: len(c.clients), Published: c.messages, Seconds: took.Seconds(), Rate: float64(c.messages) / took.Seconds(),
		Cuts: c.cuts.Load(), Expected: expected, Received: c.received.Load(), Resets: c.resets.Load(), Refused: c.refused.Load(),
		Readers: make(map[string]ChaosReader),
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
		doubled := int64(len(got) - len(distinct))
		common := 0

		for _, n := range distinct {
			if _, ok := slices.BinarySearch(want, n); ok {
				common++
			} else {
				r.Misrouted++
			}
		}

		lost := int64(len(want) - common)
		r.Lost += lost
		r.Doubled += doubled

		of := r.Readers[client.stream.keeps.String()]
		of.Clients++
		of.Expected += int64(len(want))
		of.Lost += lost
		of.Doubled += doubled
		r.Readers[client.stream.keeps.String()] = of
	}

	return r
}

// chaosClient is a browser in a tunnel.
type chaosClient struct {
	chaos  *chaos
	stream *resumable
	prefix string
	joined bool
	got    []int
}

// run keeps a stream open, and cuts it again and again, until ctx ends.
func (cl *chaosClient) run(ctx context.Context) {
	c := cl.chaos
	for ctx.Err() == nil {
		life := time.Duration(rand.ExpFloat64() * float64(c.cfg.Life))
		if c.over.Load() {
			life = time.Hour
		}

		end, cut := context.WithTimeout(ctx, life)
		err := cl.stream.read(end, 1+rand.IntN(700), cl.onEvent, cl.onPosition)
		cut()

		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
			c.cuts.Add(1)
		default:
			c.refused.Add(1)
			c.refusal.Store(&err)
		}

		select {
		case <-ctx.Done():
		case <-time.After(rand.N(200 * time.Millisecond)):
		}
	}
}

func (cl *chaosClient) onPosition() {
	if !cl.joined {
		cl.joined = true
		cl.chaos.connected.Add(1)
	}
}

func (cl *chaosClient) onEvent(typ, data []byte) {
	if string(typ) == "peald.reset" {
		cl.chaos.resets.Add(1)
		return
	}
	rest, ok := strings.CutPrefix(string(data), cl.prefix)
	if !ok {
		return // somebody else's
	}
	number, _, _ := strings.Cut(rest, " ")
	if n, err := strconv.Atoi(number); err == nil {
		cl.got = append(cl.got, n)
		cl.chaos.received.Add(1)
	}
}
