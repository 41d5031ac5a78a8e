package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/eventstream"
	"github.com/peald/peald/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testbed.LeftByNATS()...) }

// patience is the timeout for conditions that should be met soon. A NATS election
// takes up to 9 s, and longer on a busy machine.
const patience = 2 * time.Minute

// electedWithin limits how long publishing may pause when a leader is gone: for one
// election, or for several if the first is a tie or the machine is too busy to
// vote. The soak test, which has the machine to itself, allows 10 s.
const electedWithin = time.Minute

// member is a node in a test's cluster.
type member struct {
	*cluster.Node
	broker *broker.Broker
	cfg    cluster.Config
	stop   context.CancelFunc
	done   chan struct{}
	err    error
}

func brokerConfig() broker.Config {
	return broker.Config{
		Shards: 2, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect,
		Heartbeat: 15 * time.Second, Retry: 3 * time.Second, WriteTimeout: 30 * time.Second,
		History:           broker.History{MaxEvents: 100_000, MaxBytes: 1 << 30, MaxAge: 10 * time.Minute},
		Retain:            broker.Retain{MaxEvents: 10_000, MaxBytes: 64 << 20},
		IdempotencyWindow: time.Minute,
		Replica:           true,
	}
}

// configs returns the configurations of a cluster of n nodes.
func configs(tb testing.TB, n int) (cfgs []cluster.Config) {
	tb.Helper()
	dir, addrs := tb.TempDir(), testbed.FreeAddrs(tb, n)
	if n == 1 {
		addrs = []string{""}
	}
	for i, addr := range addrs {
		cfg := cluster.Config{
			Name: "test", MaxAge: 10 * time.Minute, MaxBytes: 1 << 30,
			Embedded: &cluster.Embedded{
				Dir: filepath.Join(dir, fmt.Sprint("node", i)), Addr: addr, Peers: addrs, Secret: "only for tests",
			},
			Logger: logger(tb).With("node", i),
		}
		if n == 1 {
			cfg.Embedded.Peers = nil
		}
		cfgs = append(cfgs, cfg)
	}
	return cfgs
}

func logger(tb testing.TB) *slog.Logger {
	tb.Helper()
	level := slog.LevelInfo
	if os.Getenv("VERBOSE") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: level}))
}

func start(tb testing.TB, cfg cluster.Config) *member {
	tb.Helper()
	return startOn(tb, cfg, brokerConfig())
}

// startOn starts a node with a broker.
func startOn(tb testing.TB, cfg cluster.Config, brokerCfg broker.Config) *member {
	tb.Helper()
	m, err := tryStart(tb, cfg, brokerCfg)
	if err != nil {
		tb.Fatalf("start a node: %v", err)
	}
	return m
}

// tryStart starts a node that may fail to start.
func tryStart(tb testing.TB, cfg cluster.Config, brokerCfg broker.Config) (*member, error) {
	tb.Helper()
	m := &member{cfg: cfg, broker: broker.New(brokerCfg), done: make(chan struct{})}
	var err error
	if m.Node, err = cluster.Start(cfg, m.broker); err != nil {
		m.broker.Close()
		return nil, err
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	go func() {
		defer close(m.done)
		m.err = m.Run(ctx, nil)
	}()
	tb.Cleanup(func() { m.end(tb) })
	return m, nil
}

// end shuts a node down. It does nothing if the node is down.
func (m *member) end(tb testing.TB) {
	tb.Helper()
	m.stop()
	<-m.done
	if m.err != nil {
		tb.Errorf("a node failed: %v", m.err)
		m.err = nil
	}
	m.Close()
	m.broker.Close()
}

// startAll starts a cluster, and waits until all of its nodes are serving.
func startAll(tb testing.TB, n int) []*member {
	tb.Helper()
	var members []*member
	for _, cfg := range configs(tb, n) {
		members = append(members, start(tb, cfg))
	}
	serving(tb, members...)
	return members
}

// serving waits until nodes are serving.
func serving(tb testing.TB, members ...*member) {
	tb.Helper()
	for _, m := range members {
		var reason string
		eventually(tb, func() (ok bool) { ok, reason = m.Serving(); return ok }, func() string { return "a node doesn't serve: " + reason })
	}
}

func eventually(tb testing.TB, ok func() bool, what func() string) {
	tb.Helper()
	if !testbed.Eventually(patience, ok) {
		tb.Fatal(what())
	}
}

func (m *member) publish(tb testing.TB, msg broker.Message) broker.Receipt {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := m.Publish(ctx, msg)
	if err != nil {
		tb.Fatalf("publish %q: %v", msg.Data, err)
	}
	return r
}

func toAll(data string) broker.Message {
	return broker.Message{Audience: broker.Everyone(), Data: data}
}

func toUser(user, data string) broker.Message {
	return broker.Message{Audience: broker.ToUser(user), Data: data}
}

// sequence returns the sequence number of an id.
func sequence(id string) uint64 {
	_, digits, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}

// client is a sink that decodes events.
type client struct {
	mu      sync.Mutex
	decoder eventstream.Decoder
	events  []eventstream.Event
	ended   bool
	reason  broker.Reason
}

func (c *client) Write(pieces [][]byte) (n int, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range pieces {
		_, _ = c.decoder.Write(p)
		n += len(p)
	}
	return n, nil
}

func (c *client) Close(r broker.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended, c.reason = true, r
}

// connect opens a stream on a node.
func (m *member) connect(tb testing.TB, sub broker.Subscription) *client {
	tb.Helper()
	c := new(client)
	c.decoder.OnEvent = func(e eventstream.Event) {
		if string(e.Type) == eventstream.MarkType {
			return
		}
		c.events = append(c.events, eventstream.Event{
			Type: []byte(string(e.Type)), Data: []byte(string(e.Data)), ID: []byte(string(e.ID)),
		})
	}
	// Like a browser, it tries again if the node stops serving in between.
	var err error
	testbed.Eventually(time.Minute, func() bool {
		if err = m.broker.Await(context.Background(), sub.LastEventID); err == nil {
			err = m.broker.NewStream(sub).Start(c, broker.Opening{})
		}
		return !errors.Is(err, broker.ErrSuspended)
	})
	if err != nil {
		tb.Fatalf("open a stream: %v", err)
	}
	return c
}

func (c *client) data() (data []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		data = append(data, string(e.Data))
	}
	return data
}

func (c *client) lastID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.decoder.LastEventID()
}

// gets waits for events, and checks that their data is want.
func (c *client) gets(tb testing.TB, want ...string) {
	tb.Helper()
	eventually(tb, func() bool { return len(c.data()) >= len(want) }, func() string {
		return fmt.Sprintf("got %q, want %q", c.data(), want)
	})
	if got := c.data(); fmt.Sprint(got) != fmt.Sprint(want) {
		tb.Fatalf("got %q, want %q", got, want)
	}
}

// kill leaves a node's directory as if its process had been killed.
func (m *member) kill(tb testing.TB) {
	tb.Helper()
	m.SkipCleanMark()
	m.end(tb)
}
