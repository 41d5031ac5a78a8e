// Package pealdtest runs complete daemons for tests. They run in the test's process
// on unused loopback addresses, and are stopped after the test.
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
	"github.com/peald/peald/internal/testbed"
)

// Secret is the auth.jwt.hmac_secret of the daemons.
const Secret = "only for tests, thirty-two bytes or more"

// patience is the time limit for operations that take milliseconds on an idle machine.
const patience = 3 * time.Minute

// Daemon is a running daemon.
type Daemon struct {
	daemon.Addresses

	tokens []daemon.Token
	stop   context.CancelFunc
	done   chan struct{}
	err    error // error from Run; must be read only after done is closed
}

// Start runs a daemon with the default configuration, unused ports and Secret, after
// applying the changes. It returns once the daemon accepts connections. The daemon is
// stopped after the test.
func Start(tb testing.TB, changes ...func(*daemon.Config)) *Daemon {
	tb.Helper()

	return start(tb, daemon.Options{}, changes)
}

// StartDemo is like Start, but with the demo page and its events.
func StartDemo(tb testing.TB, changes ...func(*daemon.Config)) *Daemon {
	tb.Helper()

	return start(tb, daemon.Options{Demo: true}, changes)
}

func start(tb testing.TB, options daemon.Options, changes []func(*daemon.Config)) *Daemon {
	tb.Helper()

	cfg := daemon.Defaults()
	cfg.SSE.Addr, cfg.GRPC.Addr, cfg.REST.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Auth.JWT.HMACSecret = Secret
	cfg.Drain.Timeout = 2 * time.Second // tests don't need to wait longer

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
		tb.Fatalf("start the daemon: %v", d.err)
	case <-time.After(patience):
		tb.Fatalf("the daemon is not ready after %s", patience)
	}

	return d
}

// Stop shuts the daemon down as a signal would, and waits until it has shut down.
// Further calls have no effect.
func (d *Daemon) Stop(tb testing.TB) {
	tb.Helper()
	d.stop()
	d.WaitForEnd(tb)
}

// WaitForEnd waits until the daemon has shut down for a reason outside the test.
func (d *Daemon) WaitForEnd(tb testing.TB) {
	tb.Helper()

	select {
	case <-d.done:
	case <-time.After(patience):
		tb.Fatalf("the daemon has not shut down after %s", patience)
	}

	if d.err != nil {
		tb.Errorf("the daemon failed: %v", d.err)
		d.err = nil
	}
}

// Control returns a client for the control plane. It uses the first control token of
// the daemon, if there is one.
func (d *Daemon) Control(tb testing.TB) pealv1.ControlServiceClient {
	tb.Helper()

	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}

	if len(d.tokens) > 0 {
		options = append(options, grpc.WithPerRPCCredentials(bearer(d.tokens[0].Token)))
	}

	conn, err := grpc.NewClient(d.GRPC, options...)
	if err != nil {
		tb.Fatalf("connect to the control plane: %v", err)
	}

	tb.Cleanup(func() { _ = conn.Close() })

	return pealv1.NewControlServiceClient(conn)
}

// Events returns the URL of a stream for user, or of an anonymous stream if user is
// empty.
func (d *Daemon) Events(tb testing.TB, user string) string {
	tb.Helper()

	events := url.URL{Scheme: "http", Host: d.SSE, Path: daemon.Defaults().SSE.Path}

	if user != "" {
		reply, err := d.Control(tb).CreateToken(tb.Context(), &pealv1.CreateTokenRequest{UserId: user})
		if err != nil {
			tb.Fatalf("create a token for %s: %v", user, err)
		}

		events.RawQuery = url.Values{"access_token": {reply.GetToken()}}.Encode()
	}

	return events.String()
}

// URL returns the URL of a path on the REST listener.
func (d *Daemon) URL(path string) string { return "http://" + d.REST + path }

// WaitForStreams waits until n streams are open.
func (d *Daemon) WaitForStreams(tb testing.TB, n int32) {
	tb.Helper()

	control := d.Control(tb)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()

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
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("%d streams are open after %s, want %d", stats.GetTotal().GetConnections(), patience, n)
		}
	}
}

// WaitUntilReady waits until /readyz succeeds.
func (d *Daemon) WaitUntilReady(tb testing.TB) {
	tb.Helper()

	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, d.URL("/readyz"), http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}

	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.After(patience); ; {
		resp, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = resp.Body.Close()

			if resp.StatusCode == http.StatusOK {
				return
			}
		}

		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("the daemon is not ready after %s", patience)
		}
	}
}

// bearer is a control token. It may be sent without TLS, because it is only sent over
// loopback.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// OnSocketFile returns a change that makes the gRPC listener use a socket file. The
// path should be short.
func OnSocketFile(path string) func(*daemon.Config) {
	return func(cfg *daemon.Config) { cfg.GRPC.Addr = "unix:" + path }
}

// OverTLS returns a change that makes the listener for streams use TLS.
func OverTLS(c testbed.Certificate) func(*daemon.Config) {
	return func(cfg *daemon.Config) {
		cfg.SSE.TLS = daemon.TLS{CertFile: c.CertFile, KeyFile: c.KeyFile}
	}
}

// OnEachEngine runs a test for each value of sse.engine, with a change that sets it.
func OnEachEngine(t *testing.T, test func(t *testing.T, engine func(*daemon.Config))) {
	t.Helper()

	for _, engine := range []string{daemon.EngineNetHTTP, daemon.EngineEpoll} {
		t.Run(engine, func(t *testing.T) {
			if engine == daemon.EngineEpoll && runtime.GOOS != "linux" {
				t.Skip("epoll requires Linux")
			}

			test(t, func(cfg *daemon.Config) { cfg.SSE.Engine = engine })
		})
	}
}
