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
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/presence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should come soon.
const patience = 90 * time.Second

// startNATS starts a NATS server that is reached within the process.
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

// member is a daemon as far as its presence goes.
type member struct {
	*presence.Directory

	name   string
	broker *broker.Broker
	conn   *nats.Conn
	stop   func() // in good order
	kill   func() // from one moment to the other

	counted atomic.Pointer[[]string] // the cluster's members
	broken  atomic.Bool              // its replica of the log
}

func (m *member) status() node.Status {
	is := node.Status{Serving: true}
	if counted := m.counted.Load(); counted != nil {
		is.Members = *counted
	}
	if m.broken.Load() {
		is.Broken = "it holds nothing"
	}
	return is
}

func join(tb testing.TB, s *server.Server, name string, answers presence.Answerer) *member {
	tb.Helper()
	return joinLogging(tb, s, name, answers, slog.New(slog.NewTextHandler(tb.Output(), nil)).With("on", name))
}

// joinLogging starts a daemon that logs to log.
func joinLogging(tb testing.TB, s *server.Server, name string, answers presence.Answerer, log *slog.Logger) *member {
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
		if err := m.Run(ctx, answers); err != nil {
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

// names answers with its daemon's name.
type names struct {
	name string
	mute bool // answers nothing in time
	fail bool // answers with an error
}

func (n names) Answer(ctx context.Context, method string, request []byte) ([]byte, error) {
	if n.mute {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if n.fail {
		return nil, errors.New("it can't")
	}
	return fmt.Appendf(nil, "%s %s %s", n.name, method, request), nil
}

func (n names) Tell(ctx context.Context, _ string, _ []byte, send func([]byte) error) error {
	if err := send([]byte(n.name)); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// sink takes everything.
type sink struct{}

func (sink) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	return n, nil
}

func (sink) Close(broker.Reason) {}

// tester is a test, also one of rapid's.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// connect opens a stream, and returns how it hangs up.
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
	if !pealdtest.Eventually(patience, ok) {
		tb.Fatalf(what, args...)
	}
}

// all waits until members know of each other.
func all(tb testing.TB, members ...*member) {
	tb.Helper()
	for _, m := range members {
		eventually(tb, func() bool { return len(serving(m)) == len(members) }, "%s doesn't know of all: %v", m.name, m.Nodes())
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
