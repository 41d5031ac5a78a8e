package e2e_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// process is a daemon that runs in a separate process and can be killed. Its event
// log survives restarts.
type process struct {
	sse, rest string
	control   pealv1.ControlServiceClient

	program string
	args    []string
	cmd     *exec.Cmd
	log     testbed.Log
}

// startProcess starts a daemon with more arguments, and waits until it is ready.
func startProcess(t *testing.T, more ...string) *process {
	t.Helper()

	p := newProcess(t, testbed.FreeAddrs(t, listeners), more...)
	p.start(t)

	return p
}

// startProcesses starts a cluster of n daemons with more arguments, and waits until all
// of them are ready.
func startProcesses(t *testing.T, n int, more ...string) []*process {
	t.Helper()

	addrs := slices.Collect(slices.Chunk(testbed.FreeAddrs(t, n*listeners), listeners))
	for _, own := range addrs {
		more = append(more, "--cluster.peers", own[listeners-1])
	}

	nodes := make([]*process, 0, n)
	for _, own := range addrs {
		p := newProcess(t, own, more...)
		p.launch(t)
		nodes = append(nodes, p)
	}

	for _, p := range nodes {
		p.waitUntilReady(t)
	}

	return nodes
}

// listeners is the number of addresses of a daemon: for browsers, gRPC, REST, and its
// cluster.
const listeners = 4

// newProcess returns a daemon that isn't running yet.
func newProcess(t *testing.T, addrs []string, more ...string) *process {
	t.Helper()

	p := &process{sse: addrs[0], rest: addrs[2], program: testbed.BuildDaemon(t)}
	p.args = append([]string{
		"--sse.addr", p.sse, "--grpc.addr", addrs[1], "--rest.addr", p.rest,
		"--auth.jwt.hmac_secret", pealdtest.Secret, "--sse.retry", "100ms", "--drain.timeout", "2s",
		"--cluster.mode", "embedded", "--cluster.addr", addrs[3], "--cluster.secret", pealdtest.Secret,
		"--cluster.dir", filepath.Join(t.TempDir(), "log"), "--cluster.sync=false",
	}, more...)

	conn, err := grpc.NewClient(addrs[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	p.control = pealv1.NewControlServiceClient(conn)

	t.Cleanup(func() {
		_ = conn.Close()
		p.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", &p.log)
		}
	})

	return p
}

// start starts the daemon, also again after its end, and waits until it is ready.
func (p *process) start(t *testing.T) {
	t.Helper()
	p.launch(t)
	p.waitUntilReady(t)
}

func (p *process) launch(t *testing.T) {
	t.Helper()

	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), p.program, p.args...)
	p.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (p *process) waitUntilReady(t *testing.T) {
	t.Helper()

	if !testbed.Eventually(patience, func() bool {
		resp, err := http.Get("http://" + p.rest + "/readyz")
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

// broadcast publishes an event of type message, which pages receive without a
// listener for the type.
func (p *process) broadcast(t *testing.T, data string) {
	t.Helper()

	// The connection may still be waiting to be established again.
	_, err := p.control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Event: "message", Data: data}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
}

// token returns a token for user, who may subscribe to all topics.
func (p *process) token(t *testing.T, user string) string {
	t.Helper()

	reply, err := p.control.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: user, Topics: []string{">"}})
	if err != nil {
		t.Fatal(err)
	}

	return reply.GetToken()
}

// waitForMetric waits until a metric, with its labels, has a value.
func (p *process) waitForMetric(t *testing.T, metric, value string) {
	t.Helper()

	var metrics string
	if !testbed.Eventually(patience, func() bool {
		metrics = p.metrics(t)
		return strings.Contains(metrics, "\n"+metric+" "+value+"\n")
	}) {
		t.Fatalf("%s isn't %s:\n%s", metric, value, metrics)
	}
}

func (p *process) metrics(t *testing.T) string {
	t.Helper()

	resp, err := http.Get("http://" + p.rest + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}
