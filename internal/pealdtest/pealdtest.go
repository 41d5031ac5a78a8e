// Package pealdtest runs whole daemons for tests: in process, on loopback
// addresses of their own, ended with the test.
package pealdtest

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Secret is what the daemons sign and check subscriber tokens with.
const Secret = "only for tests, thirty-two bytes or more"

// patience bounds the wait for what takes milliseconds on a quiet machine.
const patience = 3 * time.Minute

// Daemon is one that runs.
type Daemon struct {
	daemon.Addresses

	tokens []daemon.Token
	stop   context.CancelFunc
	done   chan struct{}
	err    error // of Run; to be read after done
}

// Start runs a daemon on the defaults, free ports and Secret, as each change
// has it, and returns once it accepts. It ends with the test at the latest.
func Start(tb testing.TB, changes ...func(*daemon.Config)) *Daemon {
	tb.Helper()

	return start(tb, daemon.Options{}, changes)
}

// StartDemo is Start with the demo's page and its made-up events.
func StartDemo(tb testing.TB, changes ...func(*daemon.Config)) *Daemon {
	tb.Helper()

	return start(tb, daemon.Options{Demo: true}, changes)
}

func start(tb testing.TB, options daemon.Options, changes []func(*daemon.Config)) *Daemon {
	tb.Helper()

	cfg := daemon.Defaults()
	cfg.SSE.Addr, cfg.GRPC.Addr, cfg.REST.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Auth.JWT.HMACSecret = Secret
	cfg.Drain.Timeout = 2 * time.Second // which no test has to wait out

	for _, change := range changes {
		change(&cfg)
	}

	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	d := &Daemon{tokens: cfg.Control.Tokens, stop: stop, done: make(chan struct{})}
	ready := make(chan daemon.Addresses, 1)
	options.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	options.Version = "test"
	options.Ready = func(addresses daemon.Addresses) error {
		ready <- addresses

		return nil
	}

	go func() {
		defer close(d.done)

		d.err = daemon.Run(ctx, cfg, options)
	}()

	tb.Cleanup(func() { d.Stop(tb) })

	select {
	case d.Addresses = <-ready:
	case <-d.done:
		tb.Fatalf("the daemon doesn't start: %v", d.err)
	case <-time.After(patience):
		tb.Fatalf("the daemon is not ready after %s", patience)
	}

	return d
}

// Stop ends the daemon as a signal would, and waits for its end. To stop it
// again does nothing.
func (d *Daemon) Stop(tb testing.TB) {
	tb.Helper()
	d.stop()
	d.WaitForEnd(tb)
}

// WaitForEnd returns once the daemon has ended, as something else than the test
// told it to.
func (d *Daemon) WaitForEnd(tb testing.TB) {
	tb.Helper()

	select {
	case <-d.done:
	case <-time.After(patience):
		tb.Fatalf("the daemon has not ended after %s", patience)
	}

	if d.err != nil {
		tb.Errorf("the daemon ended with an error: %v", d.err)
		d.err = nil
	}
}

// Control returns a client of the daemon's control plane, which shows the first
// of its control tokens if it has any.
func (d *Daemon) Control(tb testing.TB) pealv1.ControlServiceClient {
	tb.Helper()

	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}

	if len(d.tokens) > 0 {
		options = append(options, grpc.WithPerRPCCredentials(bearer(d.tokens[0].Token)))
	}

	conn, err := grpc.NewClient(d.GRPC, options...)
	if err != nil {
		tb.Fatalf("the control plane's address: %v", err)
	}

	tb.Cleanup(func() { _ = conn.Close() })

	return pealv1.NewControlServiceClient(conn)
}

// Events returns the URL of a stream: that of user, or an anonymous one where
// user is empty.
func (d *Daemon) Events(tb testing.TB, user string) string {
	tb.Helper()

	events := url.URL{Scheme: "http", Host: d.SSE, Path: daemon.Defaults().SSE.Path}

	if user != "" {
		reply, err := d.Control(tb).CreateToken(tb.Context(), &pealv1.CreateTokenRequest{UserId: user})
		if err != nil {
			tb.Fatalf("a token for %s: %v", user, err)
		}

		events.RawQuery = url.Values{"access_token": {reply.GetToken()}}.Encode()
	}

	return events.String()
}

// URL returns the URL of a path of the REST listener.
func (d *Daemon) URL(path string) string { return "http://" + d.REST + path }

// WaitForStreams returns once the daemon holds n streams.
func (d *Daemon) WaitForStreams(tb testing.TB, n int32) {
	tb.Helper()

	control := d.Control(tb)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()

	deadline := time.After(patience)

	for {
		stats, err := control.Stats(tb.Context(), &pealv1.StatsRequest{})
		if err != nil {
			tb.Fatalf("stats: %v", err)
		}

		if stats.GetTotal().GetConnections() == n {
			return
		}

		select {
		case <-again.C:
		case <-deadline:
			tb.Fatalf("the daemon holds %d streams after %s, want %d", stats.GetTotal().GetConnections(), patience, n)
		}
	}
}

// WaitUntilReady returns once the daemon says that it is.
func (d *Daemon) WaitUntilReady(tb testing.TB) {
	tb.Helper()

	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, d.URL("/readyz"), http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}

	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()

	for deadline := time.After(patience); ; {
		resp, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = resp.Body.Close()

			if resp.StatusCode == http.StatusOK {
				return
			}
		}

		select {
		case <-again.C:
		case <-deadline:
			tb.Fatalf("the daemon is not ready after %s", patience)
		}
	}
}

// bearer is a control token. It goes over loopback, so without TLS too.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// OnSocketFile puts a daemon's gRPC listener on a socket file, at a path that
// should be short.
func OnSocketFile(path string) func(*daemon.Config) {
	return func(cfg *daemon.Config) { cfg.GRPC.Addr = "unix:" + path }
}

// OnEachEngine runs a test on each way in which bytes get onto sockets, with a
// change that makes a daemon take it.
func OnEachEngine(t *testing.T, test func(t *testing.T, engine func(*daemon.Config))) {
	t.Helper()

	for _, engine := range []string{daemon.EngineNetHTTP, daemon.EngineEpoll} {
		t.Run(engine, func(t *testing.T) {
			if engine == daemon.EngineEpoll && runtime.GOOS != "linux" {
				t.Skip("epoll is Linux's own")
			}

			test(t, func(cfg *daemon.Config) { cfg.SSE.Engine = engine })
		})
	}
}
