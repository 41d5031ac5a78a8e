package presence_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/node"
	"github.com/peald/peald/internal/presence"
	"github.com/peald/peald/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the timeout for conditions that should be met soon.
const patience = 90 * time.Second

// startNATS starts a NATS server for connections within this process.
func startNATS(tb testing.TB) *server.Server {
	tb.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		tb.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		tb.Fatal("the NATS server is not ready")
	}
	tb.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// member is a node with a directory and a broker.
type member struct {
	*presence.Directory

	name   string
	broker *broker.Broker
	conn   *nats.Conn
	stop   func() // shuts the node down
	kill   func() // breaks its connection

	members atomic.Pointer[[]string] // of the cluster
	broken  atomic.Bool              // the node's replica of the event log
}

func (m *member) status() node.Status {
	s := node.Status{Serving: true}
	if members := m.members.Load(); members != nil {
		s.Members = *members
	}
	if m.broken.Load() {
		s.Broken = "empty"
	}
	return s
}

func join(tb testing.TB, s *server.Server, name string, handler presence.Handler) *member {
	tb.Helper()
	return joinLogging(tb, s, name, handler, slog.New(slog.NewTextHandler(tb.Output(), nil)).With("node", name))
}

// joinLogging starts a node that logs to log.
func joinLogging(tb testing.TB, s *server.Server, name string, handler presence.Handler, log *slog.Logger) *member {
	tb.Helper()
	conn, err := nats.Connect("", nats.InProcessServer(s), nats.Name(name))
	if err != nil {
		tb.Fatal(err)
	}
	m := &member{name: name, conn: conn, broker: broker.New(broker.Config{
		Shards: 2, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect,
		Heartbeat: 15 * time.Second, Retry: 3 * time.Second, WriteTimeout: 30 * time.Second,
		History: broker.History{MaxEvents: 100, MaxBytes: 1 << 20, MaxAge: time.Minute},
	})}
	m.Directory = presence.New(presence.Config{
		Conn: conn, Cluster: "test", Node: name, Broker: m.broker,
		Version: "of tests", Status: m.status,
		Logger: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx, handler); err != nil {
			tb.Errorf("%s: %v", name, err)
		}
	}()

	var once sync.Once
	m.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			conn.Close()
			m.broker.Close()
		})
	}

	m.kill = func() { conn.Close() }
	tb.Cleanup(m.stop)
	return m
}

// nameHandler responds with the name of its node.
type nameHandler struct {
	name string
	mute bool // doesn't reply
	fail bool // replies with an error
}

func (n nameHandler) HandleQuery(ctx context.Context, method string, request []byte) ([]byte, error) {
	if n.mute {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if n.fail {
		return nil, errors.New("failing")
	}
	return fmt.Appendf(nil, "%s %s %s", n.name, method, request), nil
}

func (n nameHandler) HandleWatch(ctx context.Context, _ string, _ []byte, send func([]byte) error) error {
	if err := send([]byte(n.name)); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// sink discards everything.
type sink struct{}

func (sink) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	return n, nil
}

func (sink) Close(broker.Reason) {}

// tester is a test from the package testing or rapid.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// connect opens a stream. The client closes it by calling hangUp.
func (m *member) connect(tb tester, user string, topics ...string) (hangUp func()) {
	tb.Helper()
	st := m.broker.NewStream(broker.Subscription{User: user, Topics: topics})
	if err := st.Start(sink{}, broker.Opening{}); err != nil {
		tb.Fatalf("start a stream: %v", err)
	}
	return st.HangUp
}

func eventually(tb tester, ok func() bool, what string, args ...any) {
	tb.Helper()
	if !testbed.Eventually(patience, ok) {
		tb.Fatalf(what, args...)
	}
}

// joined waits until the directories of members contain each other.
func joined(tb testing.TB, members ...*member) {
	tb.Helper()
	for _, m := range members {
		eventually(tb, func() bool { return len(serving(m)) == len(members) }, "%s doesn't list all nodes: %v", m.name, m.Nodes())
	}
}

func serving(m *member) (names []string) {
	for _, n := range m.Nodes() {
		if n.GetState() == pealv1.NodeState_NODE_STATE_SERVING {
			names = append(names, n.GetName())
		}
	}
	return names
}
