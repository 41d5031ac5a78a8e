package load_test

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// disrupt calls disruption while messages are published, and waits until they
// are published again. It fails if publishing was interrupted for longer than
// within.
func (w *clusterWorld) disrupt(t *testing.T, what string, within time.Duration, disruption func()) {
	t.Helper()
	w.worst.Store(0)
	before := w.acked.Load()
	start := time.Now()
	disruption()
	acked := w.acked.Load()
	if !testbed.Eventually(2*time.Minute, func() bool { return w.acked.Load() >= acked+int64(w.load.rate) }) {
		t.Fatalf("%s: publishing doesn't recover", what)
	}

	for _, n := range w.nodes {
		n.awaitReady(t)
	}

	gap := time.Duration(w.worst.Load())
	t.Logf("%s: %d messages in %s, longest interruption %s", what, w.acked.Load()-before, time.Since(start).Round(time.Millisecond), gap.Round(time.Millisecond))
	if gap > within {
		t.Errorf("%s: publishing was interrupted for %s", what, gap)
	}
}

// node returns the leader or a follower.
func (w *clusterWorld) node(t *testing.T, leads bool) *clusterNode {
	t.Helper()
	return findNode(t, w.nodes, leads)
}

// findNode returns the leader or a follower. It waits for up to a minute for one.
func findNode(tb testing.TB, nodes []*clusterNode, leads bool) *clusterNode {
	tb.Helper()
	var found *clusterNode
	if !eventually(time.Minute, func() bool {
		i := slices.IndexFunc(nodes, func(n *clusterNode) bool { return n.leads() == leads })
		if i >= 0 {
			found = nodes[i]
		}

		return i >= 0
	}) {
		tb.Fatalf("no node with leads=%t after a minute", leads)
	}

	return found
}

// kill kills nodes concurrently, and restarts them after a second.
func (w *clusterWorld) kill(t *testing.T, nodes ...*clusterNode) {
	t.Helper()
	var dying sync.WaitGroup
	for _, n := range nodes {
		dying.Go(func() { n.end(syscall.SIGKILL) })
	}
	dying.Wait()
	time.Sleep(time.Second)
	for _, n := range nodes {
		n.start(t)
	}
}

// suspend suspends a node while another node is called with queries that involve
// all nodes. Replies must not wait for the suspended node, and must list it as
// missing.
func (w *clusterWorld) suspend(t *testing.T, n *clusterNode) {
	t.Helper()
	index := slices.Index(w.nodes, n)
	own, err := w.conns[index].Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}

	name := ""
	for _, node := range own.GetNodes() {
		if node.GetAnswering() {
			name = node.GetName()
		}
	}

	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}()

	other := w.conns[(index+1)%len(w.conns)]
	var asking sync.WaitGroup
	ask := func(what string, call func() (missing []string, err error)) {
		asking.Go(func() {
			begin := time.Now()
			missing, err := call()
			if took := time.Since(begin); err != nil || !slices.Equal(missing, []string{name}) || took > 30*time.Second {
				t.Errorf("%s: missing nodes %q, %v after %s, want %s within 30s", what, missing, err, took, name)
			}
		})
	}

	ask("ListUsers", func() ([]string, error) {
		reply, err := other.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
		if n := len(reply.GetUsers()); err == nil && n == 0 {
			return nil, errors.New("users of the other nodes are not listed")
		}

		return reply.GetMissingNodes(), err
	})

	ask("Stats", func() ([]string, error) {
		reply, err := other.Stats(t.Context(), &pealv1.StatsRequest{})
		return reply.GetMissingNodes(), err
	})

	asking.Wait()
}

// stall suspends a node for longer than an election takes.
func (w *clusterWorld) stall(t *testing.T, n *clusterNode) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(12 * time.Second)
	if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}
