package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/redis"
)

// publisher records messages. Like a broker, it publishes a message once per idempotency
// key.
type publisher struct {
	mu       sync.Mutex
	messages []broker.Message
	keys     map[string]bool
	repeated int
}

func newPublisher() *publisher { return &publisher{keys: make(map[string]bool)} }

func (p *publisher) Ready() error { return nil }

func (p *publisher) PublishInOrder(_ context.Context, messages []broker.Message) ([]error, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, m := range messages {
		if p.keys[m.IdempotencyKey] {
			p.repeated++
			continue
		}
		p.keys[m.IdempotencyKey] = true
		p.messages = append(p.messages, m)
	}

	return make([]error, len(messages)), nil
}

// published returns all messages.
func (p *publisher) published() []broker.Message {
	p.mu.Lock()
	defer p.mu.Unlock()

	return slices.Clone(p.messages)
}

// data returns the data of all messages to a topic.
func (p *publisher) data(topic string) (all []string) {
	for _, m := range p.published() {
		if name, _ := m.Audience.Topic(); name == topic {
			all = append(all, m.Data)
		}
	}

	return all
}

// awaitNumbered waits until n messages to a topic have been published, and checks that
// they are those of addNumbered, in order.
func (p *publisher) awaitNumbered(tb testing.TB, topic string, n int) {
	tb.Helper()

	eventually(tb, "messages are published", func() error {
		if got := len(p.data(topic)); got < n {
			return fmt.Errorf("%d of %d messages to %s are published", got, n, topic)
		}

		return nil
	})

	for i, data := range p.data(topic) {
		if data != fmt.Sprint(i) {
			tb.Fatalf("message %d to %s is %q; of %d", i, topic, data, n)
		}
	}
}

// heldPublisher is a publisher whose calls block until proceed is closed or the test
// ends. They ignore their contexts, like a process that is suspended.
type heldPublisher struct {
	source.Publisher

	entered chan struct{} // receives when a call blocks
	proceed chan struct{}
	ended   <-chan struct{}
}

func hold(tb testing.TB, p source.Publisher) *heldPublisher {
	tb.Helper()

	return &heldPublisher{p, make(chan struct{}, 1000), make(chan struct{}), tb.Context().Done()}
}

func (p *heldPublisher) PublishInOrder(ctx context.Context, messages []broker.Message) ([]error, error) {
	p.entered <- struct{}{}

	select {
	case <-p.proceed:
	case <-p.ended:
	}

	return p.Publisher.PublishInOrder(ctx, messages)
}

// node is a node of a cluster that reads one source.
type node struct {
	manager *source.Manager
	stop    func()
}

// run runs a node until the test ends or stop is called.
func run(tb testing.TB, name string, to source.Publisher, cfg redis.Config) *node {
	tb.Helper()

	if err := cfg.Validate(); err != nil {
		tb.Fatal(err)
	}

	log := slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
	n := &node{manager: source.NewManager(source.Config{Publisher: to, Node: name, Logger: log})}
	n.manager.Reconfigure([]source.Source{{Name: "test", Kind: cfg}})

	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))

	var running sync.WaitGroup
	running.Go(func() { n.manager.Run(ctx) })
	n.stop = func() {
		cancel()
		running.Wait()
	}
	tb.Cleanup(n.stop)

	return n
}

// status returns the status of the node's source.
func (n *node) status() source.Status {
	if all := n.manager.Statuses(); len(all) == 1 {
		return all[0]
	}

	return source.Status{}
}

// awaitState waits until the node's source is in the given state.
func (n *node) awaitState(tb testing.TB, want source.State) {
	tb.Helper()

	eventually(tb, "the source is "+string(want), func() error {
		if s := n.status(); s.State != want {
			return fmt.Errorf("it is %s (%s)", s.State, s.LastError)
		}

		return nil
	})
}

// awaitError waits until the node's source has failed, and returns the error.
func (n *node) awaitError(tb testing.TB) string {
	tb.Helper()

	eventually(tb, "the source fails", func() error {
		if n.status().Failures == 0 {
			return errors.New("it hasn't")
		}

		return nil
	})

	return n.status().LastError
}

// config returns the settings for reading streams from s.
func config(s *server, streams ...string) redis.Config {
	return redis.Config{URL: "redis://" + s.addr + "/0", Streams: streams, Group: "peald"}
}
