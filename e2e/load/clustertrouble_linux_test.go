package load_test

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// flow lets trouble happen while messages flow, and waits until they flow again,
// which they may not do for a time.
func (w *clusterWorld) flow(t *testing.T, what string, within time.Duration, trouble func()) {
	t.Helper()
	w.worst.Store(0)
	before := w.acked.Load()
	start := time.Now()
	trouble()
	acked := w.acked.Load()
	if !pealdtest.Eventually(2*time.Minute, func() bool { return w.acked.Load() >= acked+int64(w.load.rate) }) {
		t.Fatalf("%s: nothing is published any more", what)
	}
	for _, n := range w.nodes {
		n.awaitReady(t)
	}
	gap := time.Duration(w.worst.Load())
	t.Logf("%s: %d messages in %s, the longest pause %s", what, w.acked.Load()-before, time.Since(start).Round(time.Millisecond), gap.Round(time.Millisecond))
	if gap > within {
		t.Errorf("%s: nothing was published for %s", what, gap)
	}
}

// node is one that leads, or one that doesn't.
func (w *clusterWorld) node(t *testing.T, leads bool) *clusterNode {
	t.Helper()
	return leading(t, w.nodes, leads)
}

// leading is one of nodes that leads, or one that doesn't.
func leading(tb testing.TB, nodes []*clusterNode, leads bool) *clusterNode {
	tb.Helper()
	var found *clusterNode
	if !pealdtest.Eventually(time.Minute, func() bool {
		i := slices.IndexFunc(nodes, func(n *clusterNode) bool { return n.leads() == leads })
		if i >= 0 {
			found = nodes[i]
		}
		return i >= 0
	}) {
		tb.Fatal("no node leads")
	}
	return found
}

// kill kills nodes at once, and starts them again after a second.
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

// standStill stops a process for as long as others are asked for what all nodes
// hold: they don't wait for it, and name it.
func (w *clusterWorld) standStill(t *testing.T, n *clusterNode) {
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
				t.Errorf("%s: missing are %q, %v, after %s, want %s after a second", what, missing, err, took, name)
			}
		})
	}
	ask("ListUsers", func() ([]string, error) {
		reply, err := other.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
		if n := len(reply.GetUsers()); err == nil && n == 0 {
			return nil, errors.New("no users of the others are listed")
		}
		return reply.GetMissingNodes(), err
	})
	ask("Stats", func() ([]string, error) {
		reply, err := other.Stats(t.Context(), &pealv1.StatsRequest{})
		return reply.GetMissingNodes(), err
	})
	asking.Wait()
}

// stall stops a process for longer than an election takes.
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
