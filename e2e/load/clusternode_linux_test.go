package load_test

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// clusterNode is a cluster node that runs in a separate process.
type clusterNode struct {
	path      string
	args      []string
	dir       string
	sse, rest string
	grpc      string
	log       testbed.Log

	mu  sync.Mutex
	cmd *exec.Cmd
}

func startNodes(tb testing.TB, n int, more ...string) (nodes []*clusterNode) {
	tb.Helper()

	return startNodesWith(tb, n, func() []string { return more })
}

// startNodesWith is like startNodes, but calls more for each node.
func startNodesWith(tb testing.TB, n int, more func() []string) (nodes []*clusterNode) {
	tb.Helper()
	path := testbed.BuildDaemon(tb)
	addrs := testbed.FreeAddrs(tb, 4*n)
	peers := strings.Join(addrs[3*n:], ",")

	for i := range n {
		node := &clusterNode{path: path, sse: addrs[3*i], grpc: addrs[3*i+1], rest: addrs[3*i+2], dir: tb.TempDir()}
		node.args = []string{
			"--sse.addr", node.sse, "--grpc.addr", node.grpc, "--rest.addr", node.rest, "--sse.retry", "100ms",
			"--auth.jwt.hmac_secret", pealdtest.Secret, "--drain.timeout", "5s",
			"--history.max_events", "1000000",
			"--cluster.mode", "embedded", "--cluster.addr", addrs[3*n+i], "--cluster.peers", peers,
			"--cluster.dir", filepath.Join(node.dir, "log"), "--cluster.secret", "only for tests",
		}
		node.args = append(node.args, more()...)
		node.start(tb)
		nodes = append(nodes, node)
		tb.Cleanup(func() {
			node.end(syscall.SIGKILL)
			if tb.Failed() {
				tb.Logf("end of node %d's log:\n%s", i, node.logTail(6000))
			}
		})
	}

	for _, node := range nodes {
		node.awaitReady(tb)
	}

	return nodes
}

// logTail returns the last bytes of the process's log.
func (n *clusterNode) logTail(bytes int) string {
	text := n.log.String()
	return text[max(0, len(text)-bytes):]
}

func (n *clusterNode) start(tb testing.TB) {
	tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cmd = exec.Command(n.path, n.args...)
	n.cmd.Dir = n.dir
	n.cmd.Stderr = &n.log
	if err := n.cmd.Start(); err != nil {
		tb.Fatalf("start a node: %v", err)
	}
}

// end sends the process a signal and waits for it to exit.
func (n *clusterNode) end(sig syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd.ProcessState == nil {
		_ = n.cmd.Process.Signal(sig)
		_ = n.cmd.Wait()
	}
}

func (n *clusterNode) restart(t *testing.T, sig syscall.Signal) {
	t.Helper()
	n.end(sig)
	n.start(t)
}

func (n *clusterNode) awaitReady(tb testing.TB) {
	tb.Helper()
	if !eventually(time.Minute, n.ready) {
		tb.Fatal("a node is not ready after a minute")
	}
}

func (n *clusterNode) ready() bool {
	resp, err := http.Get("http://" + n.rest + "/readyz")
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return resp.StatusCode == http.StatusOK
}

// eventually is like [testbed.Eventually] for conditions that take CPU time in other
// processes.
func eventually(timeout time.Duration, cond func() bool) bool {
	return testbed.Poll(timeout, 100*time.Millisecond, cond)
}

// leads reports whether the node is the leader of the event log.
func (n *clusterNode) leads() bool { return strings.Contains(n.metrics(), "\npeald_cluster_leads 1\n") }

// metrics returns the node's metrics, or an empty string if it doesn't respond.
func (n *clusterNode) metrics() string {
	resp, err := http.Get("http://" + n.rest + "/metrics")
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// control returns a client with a connection of its own.
func (n *clusterNode) control(t *testing.T) pealv1.ControlServiceClient {
	t.Helper()

	conn, err := grpc.NewClient(n.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	return pealv1.NewControlServiceClient(conn)
}
