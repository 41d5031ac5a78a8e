package proxies_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// asDaemonVariable is the environment variable that turns the test binary into a
// daemon. Its value is the daemon's configuration in JSON.
const asDaemonVariable = "PEALD_PROXIES_TEST_DAEMON"

// runDaemon runs a daemon with a configuration and returns the exit code.
func runDaemon(configuration string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	var p process

	err := json.Unmarshal([]byte(configuration), &p)
	if err == nil {
		err = daemon.Run(ctx, p.config(), daemon.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	}

	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}

	return 0
}

// process is a daemon that runs in a separate process and can be killed.
type process struct {
	// Host is the loopback address of its listeners.
	Host string
	// Dir is the directory of its event log, which survives restarts.
	Dir    string
	Origin string

	cmd *exec.Cmd
	log *testbed.Log
}

// config returns the daemon's configuration.
func (p *process) config() daemon.Config {
	cfg := daemon.Defaults()
	cfg.SSE.Addr, cfg.GRPC.Addr, cfg.REST.Addr = p.sse(), p.Host+":19090", p.Host+":19091"
	cfg.SSE.AllowedOrigins = []string{p.Origin}
	cfg.Cluster.Mode = daemon.ClusterEmbedded
	cfg.Cluster.Addr, cfg.Cluster.Dir = p.Host+":16222", p.Dir
	cfg.Drain.Timeout = 2 * time.Second
	// Clients must not reconnect before Varnish's probe has failed.
	cfg.SSE.Retry = 2 * time.Second

	return cfg
}

func (p *process) sse() string { return p.Host + ":18080" }

// newProcess returns a daemon that has not been started.
func newProcess(t *testing.T, origin string) *process {
	t.Helper()

	p := &process{Host: loopback(), Dir: t.TempDir(), Origin: origin, log: &testbed.Log{}}

	t.Cleanup(func() {
		p.end(syscall.SIGKILL)

		if t.Failed() {
			t.Logf("the log of the daemon at %s:\n%s", p.Host, p.log)
		}
	})

	return p
}

// start starts the daemon and waits until it is ready.
func (p *process) start(t *testing.T) {
	t.Helper()

	config, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), self)
	p.cmd.Env = append(os.Environ(), asDaemonVariable+"="+string(config))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	if !eventually(func() bool {
		resp, err := http.Get("http://" + p.Host + ":19091/readyz")
		if err != nil {
			return false
		}

		_ = resp.Body.Close()

		return resp.StatusCode == http.StatusOK
	}) {
		t.Fatal("the daemon is not ready")
	}
}

// end sends the daemon a signal and waits until it has exited.
func (p *process) end(by syscall.Signal) {
	if p.cmd != nil && p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(by)
		_ = p.cmd.Wait()
	}
}

// control returns a client for the control plane.
func (p *process) control(t *testing.T) pealv1.ControlServiceClient {
	t.Helper()

	conn, err := grpc.NewClient(p.Host+":19090", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	return pealv1.NewControlServiceClient(conn)
}

// publish publishes an event of type message, which pages receive without
// registering a listener for the type.
func (p *process) publish(t *testing.T, data string) {
	t.Helper()

	if _, err := p.control(t).Broadcast(t.Context(), &pealv1.BroadcastRequest{Event: "message", Data: data}); err != nil {
		t.Fatal(err)
	}
}

// awaitStreams waits until the daemon holds n streams.
func (p *process) awaitStreams(t *testing.T, n int) {
	t.Helper()

	control := p.control(t)

	var held int32

	if !eventually(func() bool {
		stats, err := control.Stats(t.Context(), &pealv1.StatsRequest{})
		held = stats.GetTotal().GetConnections()

		return err == nil && int(held) == n
	}) {
		t.Fatalf("the daemon has %d streams, want %d", held, n)
	}
}
