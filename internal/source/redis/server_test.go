package redis_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/peald/peald/internal/pealdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the time limit for what takes seconds at most on an idle machine.
const patience = 2 * time.Minute

// server is a Redis server that belongs to one test.
type server struct {
	addr string
	path string
	args []string
	dir  string

	password string // of the default user; empty if it has none

	process *exec.Cmd
}

// startServer starts a server on an unused port. It stores everything on disk before it
// replies. Args are added to its command line. The server is stopped after the test.
func startServer(tb testing.TB, args ...string) *server {
	tb.Helper()

	s := newServer(tb, args...)
	s.start(tb)

	return s
}

// newServer returns a server that isn't started yet. It is stopped after the test.
func newServer(tb testing.TB, args ...string) *server {
	tb.Helper()

	addr := pealdtest.FreeAddrs(tb, 1)[0]
	s := &server{addr: addr, path: pealdtest.Program(tb, "redis-server"), dir: tb.TempDir()}
	_, port, _ := net.SplitHostPort(addr)
	s.args = append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
	}, args...)
	tb.Cleanup(s.kill)

	return s
}

// start starts the server and waits until it accepts connections and has loaded its
// data.
func (s *server) start(tb testing.TB) {
	tb.Helper()

	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()

	s.process = exec.Command(s.path, s.args...)
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		tb.Fatal(err)
	}

	client := goredis.NewClient(&goredis.Options{Addr: s.addr, Password: s.password, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()

	eventually(tb, "the server accepts connections", func() error { return client.Ping(tb.Context()).Err() })
}

// kill ends the server without giving it a chance to write anything.
func (s *server) kill() {
	if s.process == nil {
		return
	}

	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// client returns a client, which is closed after the test.
func (s *server) client(tb testing.TB) *goredis.Client {
	tb.Helper()

	client := goredis.NewClient(&goredis.Options{Addr: s.addr, Password: s.password})
	tb.Cleanup(func() { _ = client.Close() })

	return client
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

	if length, err := client.XLen(tb.Context(), stream).Result(); err != nil || length != n {
		return fmt.Errorf("it has %d entries (%v), want %d", length, err, n)
	}

	return nil
}

// hasLag returns nil if the node has reported a lag of the given number of records.
func hasLag(n *node, records int64) error {
	if lag := n.status().Lag; lag.Records != records {
		return fmt.Errorf("it is %+v", lag)
	}

	return nil
}
