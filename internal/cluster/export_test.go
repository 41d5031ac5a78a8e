package cluster

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// EncodeBatch is an entry with messages, of another node, for the log of an epoch.
func (n *Node) EncodeBatch(tb testing.TB, epoch string, messages int, message func(i int) broker.Message) []byte {
	tb.Helper()
	batch := &clusterv1.Batch{Incarnation: 1, Number: 1, Epoch: epoch}
	for i := range messages {
		m := message(i)
		batch.Messages = append(batch.Messages, encode(&m))
	}
	data, err := proto.Marshal(batch)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// ApplyEntry applies an entry whatever came before it.
func (n *Node) ApplyEntry(tb testing.TB, seq uint64, at time.Time, data []byte) {
	tb.Helper()
	r := &reader{node: n, next: seq, last: make(map[uint64]uint64)}
	if err := r.apply(tb.Context(), seq, at, data); err != nil {
		tb.Fatal(err)
	}
}

// DeleteLog deletes the stream.
func (n *Node) DeleteLog(tb testing.TB) {
	tb.Helper()
	if err := n.js.DeleteStream(tb.Context(), n.cfg.Name); err != nil {
		tb.Fatal(err)
	}
}

// LogMembers are the replicas of the log, as its leader says.
func (n *Node) LogMembers() []Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.members
}

// Found has the node believe that the log's leader said so at a moment, and tell
// its operator at another.
func (n *Node) Found(at, now time.Time, trouble string, replicas int, members []Member, counted ...string) {
	n.mu.Lock()
	n.state.epoch, n.state.trouble, n.state.quorum = "epoch", trouble, at
	n.state.replicas, n.state.members, n.state.counted = replicas, members, counted
	n.mu.Unlock()
	n.worry(now)
}

// Idle is a node that does nothing.
func Idle(cfg Config) *Node { return &Node{cfg: cfg, log: cfg.Logger} }

// NumRoutes is how many connections to other nodes there are.
func (n *Node) NumRoutes() int { return n.server.NumRoutes() }

// ForgetEnd has the node not record that it is shut down, as if it were killed.
func (n *Node) ForgetEnd() {
	n.marks.mu.Lock()
	defer n.marks.mu.Unlock()
	_ = n.marks.file.Close()
	n.marks.file = nil
}

// CloseMark closes the file that records the position in the log, so that writes
// to it fail.
func (n *Node) CloseMark(tb testing.TB) {
	tb.Helper()
	n.marks.mu.Lock()
	defer n.marks.mu.Unlock()
	if err := n.marks.file.Close(); err != nil {
		tb.Fatal(err)
	}
}

// StopJetStream stops the JetStream of the node's own server, as that does itself
// after some errors.
func (n *Node) StopJetStream(tb testing.TB) {
	tb.Helper()
	if err := n.server.ShutdownJetStream(); err != nil {
		tb.Fatal(err)
	}
}

// Replica describes the node's own replica of the log.
func (n *Node) Replica(tb testing.TB) string {
	tb.Helper()
	if has := n.server.holds(n.cfg.Name); has != nil {
		return fmt.Sprintf("%d to %d, %d entries", has.first, has.last, has.entries)
	}
	return "nothing"
}

// StopReplica has the node's server stop its JetStream.
func (n *Node) StopReplica(tb testing.TB) {
	tb.Helper()
	if err := n.server.DisableJetStream(); err != nil {
		tb.Fatal(err)
	}
}
