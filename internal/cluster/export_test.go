package cluster

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// EncodeBatch returns an entry with messages from another node, for the event log
// with the given epoch.
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

// ApplyEntry applies an entry regardless of the previous one.
func (n *Node) ApplyEntry(tb testing.TB, seq uint64, at time.Time, data []byte) {
	tb.Helper()
	r := &reader{node: n, next: seq, lastBatch: make(map[uint64]uint64)}
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

// Expire removes all entries from the event log, as if they had expired.
func (n *Node) Expire(tb testing.TB) {
	tb.Helper()
	stream, err := n.js.Stream(tb.Context(), n.cfg.Name)
	if err == nil {
		err = stream.Purge(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// LogMembers returns the replicas of the event log, as its leader reports them.
func (n *Node) LogMembers() []Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.members
}

// SetProbed sets the result of a probe, and warns about it. at is when the event
// log last had a quorum.
func (n *Node) SetProbed(at, now time.Time, trouble string, replicas int, members []Member, clusterMembers ...string) {
	n.mu.Lock()
	n.state.epoch, n.state.trouble, n.state.quorumAt = "epoch", trouble, at
	n.state.replicas, n.state.members, n.state.clusterMembers = replicas, members, clusterMembers
	n.mu.Unlock()
	n.prober.warn(now)
}

// Idle returns a node that does nothing.
func Idle(cfg Config) *Node {
	n := &Node{cfg: cfg, log: cfg.Logger}
	n.prober = newProber(n)
	return n
}

// NumRoutes returns the number of connections to other nodes.
func (n *Node) NumRoutes() int { return n.server.NumRoutes() }

// SkipCleanMark keeps the node from recording a clean shutdown, as if it were
// killed.
func (n *Node) SkipCleanMark() {
	n.marks.mu.Lock()
	defer n.marks.mu.Unlock()
	_ = n.marks.file.Close()
	n.marks.file = nil
	n.conn.Close() // and from saving its retained values
}

// SavedRetained returns the last position that the latest known snapshot of the retained
// values includes.
func (n *Node) SavedRetained() uint64 {
	n.saver.mu.Lock()
	defer n.saver.mu.Unlock()
	return n.saver.applied
}

// RetainedMessages returns the number of messages in the stream with the retained values.
func (n *Node) RetainedMessages(tb testing.TB) uint64 {
	tb.Helper()
	stream, err := n.js.Stream(tb.Context(), n.retainedStream())
	if err != nil {
		tb.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

// CrashMark changes the record in a directory as if its node had run on a machine that
// has crashed, and the record of the last entries had been lost as well.
func CrashMark(tb testing.TB, dir string, lost uint64) {
	tb.Helper()
	m := readMarks(dir, true, nil, slog.New(slog.DiscardHandler))
	if m.unreliable != "" {
		tb.Fatal(m.unreliable)
	}
	for key, known := range m.record.Logs {
		known.Entry -= lost
		m.record.Logs[key] = known
	}
	m.record.Boot, m.record.Clean = "another", false
	var err error
	if m.file, err = os.OpenFile(m.path, os.O_WRONLY, 0); err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = m.file.Close() }()
	if err := m.write(); err != nil {
		tb.Fatal(err)
	}
}

// CloseMark closes the file that records the position in the event log, so that
// writes to it fail.
func (n *Node) CloseMark(tb testing.TB) {
	tb.Helper()
	n.marks.mu.Lock()
	defer n.marks.mu.Unlock()
	if err := n.marks.file.Close(); err != nil {
		tb.Fatal(err)
	}
}

// StopJetStream shuts down JetStream, as the embedded server does itself after some
// errors.
func (n *Node) StopJetStream(tb testing.TB) {
	tb.Helper()
	if err := n.server.ShutdownJetStream(); err != nil {
		tb.Fatal(err)
	}
}

// Replica describes the node's own replica of the event log.
func (n *Node) Replica(tb testing.TB) string {
	tb.Helper()
	if has := n.server.extentOf(n.cfg.Name); has != nil {
		return fmt.Sprintf("%d to %d, %d entries", has.first, has.last, has.entries)
	}
	return "nothing"
}

// StopReplica disables JetStream in the embedded server.
func (n *Node) StopReplica(tb testing.TB) {
	tb.Helper()
	if err := n.server.DisableJetStream(); err != nil {
		tb.Fatal(err)
	}
}

// Leads reports whether the node leads the event log.
func (n *Node) Leads() bool { return n.leads() }

// LogRange returns the first and last entries of the event log.
func (n *Node) LogRange() (first, last uint64) { return n.logRange() }
