package redis_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/redis"
	"github.com/peald/peald/internal/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the time limit for what takes seconds at most on an idle machine.
const patience = 2 * time.Minute

// config returns the settings for reading streams from s.
func config(s *sourcetest.Redis, streams ...string) redis.Config {
	return redis.Config{URL: "redis://" + s.Addr + "/0", Streams: streams, Group: "peald"}
}

// run starts a node that reads one source.
func run(tb testing.TB, name string, to source.Publisher, cfg redis.Config) *sourcetest.Node {
	tb.Helper()

	return sourcetest.Start(tb, name, to, source.Source{Name: "test", Kind: cfg})
}

// awaitError waits until the node's source has failed, and returns the error.
func awaitError(tb testing.TB, n *sourcetest.Node) string {
	tb.Helper()

	eventually(tb, "the source fails", func() error {
		if n.Status().Failures == 0 {
			return errors.New("it hasn't")
		}

		return nil
	})

	return n.Status().LastError
}

// dataOf returns the data of all messages to a topic.
func dataOf(p *sourcetest.Publisher, topic string) (all []string) {
	for _, m := range p.Messages() {
		if name, _ := m.Audience.Topic(); name == topic {
			all = append(all, m.Data)
		}
	}

	return all
}

// awaitNumbered waits until n messages to a topic have been published, and checks that
// they are those of addNumbered, in order.
func awaitNumbered(tb testing.TB, p *sourcetest.Publisher, topic string, n int) {
	tb.Helper()

	eventually(tb, "messages are published", func() error {
		if got := len(dataOf(p, topic)); got < n {
			return fmt.Errorf("%d of %d messages to %s are published", got, n, topic)
		}

		return nil
	})

	for i, data := range dataOf(p, topic) {
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

// add appends an entry to a stream and returns its id. Values alternates between names
// and values.
func add(tb testing.TB, client *goredis.Client, stream string, values ...string) string {
	tb.Helper()

	id, err := client.XAdd(tb.Context(), &goredis.XAddArgs{Stream: stream, Values: values}).Result()
	if err != nil {
		tb.Fatal(err)
	}

	return id
}

// addNumbered appends n entries to a stream, for the topic with the stream's name and
// numbered from first in their data.
func addNumbered(tb testing.TB, client *goredis.Client, stream string, first, n int) {
	tb.Helper()

	_, err := client.Pipelined(tb.Context(), func(p goredis.Pipeliner) error {
		for i := range n {
			p.XAdd(tb.Context(), &goredis.XAddArgs{Stream: stream, Values: []string{"topic", stream, "data", fmt.Sprint(first + i)}})
		}

		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// eventually waits until check returns nil.
func eventually(tb testing.TB, what string, check func() error) {
	tb.Helper()

	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.After(patience); ; {
		err := check()
		if err == nil {
			return
		}

		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("waiting until %s: %v", what, err)
		}
	}
}

// hasLength returns nil if a stream has n entries.
func hasLength(tb testing.TB, client *goredis.Client, stream string, n int64) error {
	tb.Helper()

	length, err := client.XLen(tb.Context(), stream).Result()
	if err == nil && length != n {
		err = fmt.Errorf("it has %d entries, want %d", length, n)
	}

	return err
}
