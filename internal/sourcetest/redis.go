package sourcetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/peald/peald/internal/testbed"
)

// Redis is a Redis server on a loopback address. It stores everything on disk before it
// replies. Its methods must not be called concurrently.
type Redis struct {
	// Addr is the server's HOST:PORT, which stays the same when it is restarted.
	Addr string
	// Password is the password of the default user; empty if there is none.
	Password string

	program string
	args    []string
	log     testbed.Log
	cmd     *exec.Cmd
}

// StartRedis starts a new server, which is stopped after the test. Args are added to its
// command line. If Redis isn't installed, the test is skipped, or fails if CI is set.
func StartRedis(tb testing.TB, args ...string) *Redis {
	tb.Helper()

	r := NewRedis(tb, args...)
	r.Start(tb)

	return r
}

// NewRedis is like [StartRedis], but doesn't start the server.
func NewRedis(tb testing.TB, args ...string) *Redis {
	tb.Helper()

	addr := testbed.FreeAddrs(tb, 1)[0]
	_, port, _ := net.SplitHostPort(addr)

	return newRedis(tb, addr, append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", tb.TempDir(), "--save", "", "--appendonly", "yes", "--appendfsync", "always",
	}, args...))
}

// StartSentinel starts a sentinel that alone decides when a replica takes over from
// master, which it calls "main". It is stopped after the test.
func StartSentinel(tb testing.TB, master *Redis) *Redis {
	tb.Helper()

	addr := testbed.FreeAddrs(tb, 1)[0]
	_, port, _ := net.SplitHostPort(addr)
	host, masterPort, _ := net.SplitHostPort(master.Addr)

	dir := tb.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor main %s %s 1\n"+
		"sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n", port, dir, host, masterPort)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}

	r := newRedis(tb, addr, []string{file, "--sentinel"})
	r.Start(tb)

	return r
}

func newRedis(tb testing.TB, addr string, args []string) *Redis {
	tb.Helper()

	// The library would write lines of its own to stderr.
	logging.Disable()

	r := &Redis{Addr: addr, program: testbed.Program(tb, "redis-server"), args: args}
	tb.Cleanup(func() {
		r.Kill()
		if tb.Failed() {
			text := r.log.String()
			tb.Logf("end of the log of Redis:\n%s", text[max(0, len(text)-4000):])
		}
	})

	return r
}

// Start starts the server, and waits until it has loaded its data and accepts
// connections.
func (r *Redis) Start(tb testing.TB) {
	tb.Helper()

	r.cmd = exec.Command(r.program, r.args...) //nolint:gosec,noctx // chosen by a test; runs until Kill
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	if err := r.cmd.Start(); err != nil {
		tb.Fatalf("start Redis: %v", err)
	}

	client := r.NewClient()
	defer func() { _ = client.Close() }()

	if !testbed.Eventually(patience, func() bool { return client.Ping(tb.Context()).Err() == nil }) {
		tb.Fatalf("Redis doesn't accept connections after %s", patience)
	}
}

// Kill ends the server without giving it a chance to write anything.
func (r *Redis) Kill() {
	if r.cmd == nil {
		return
	}

	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// Client returns a client, which is closed after the test. It repeats no command.
func (r *Redis) Client(tb testing.TB) *goredis.Client {
	tb.Helper()

	client := r.NewClient()
	tb.Cleanup(func() { _ = client.Close() })

	return client
}

// NewClient is like [Redis.Client], but the caller must close the client.
func (r *Redis) NewClient() *goredis.Client {
	return goredis.NewClient(&goredis.Options{Addr: r.Addr, Password: r.Password, MaxRetries: -1, DialerRetries: 1})
}

// AppendOnce appends entries to a stream exactly once, no matter how often connections
// fail, or returns an error if ctx ends first. An entry's fields are names and values that
// alternate. Key must be different for each call.
func AppendOnce(ctx context.Context, client *goredis.Client, stream, key string, entries ...[]string) error {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()

	for key = "appended:" + key; ; {
		done, err := client.Exists(ctx, key).Result()
		if err == nil && done == 1 {
			return nil
		}

		if err == nil {
			_, err = client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
				p.Set(ctx, key, "", 0)
				for _, fields := range entries {
					p.XAdd(ctx, &goredis.XAddArgs{Stream: stream, Values: fields})
				}

				return nil
			})
		}
		if err == nil {
			return nil
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-pause.C:
		}
	}
}
