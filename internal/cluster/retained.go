package cluster

import (
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// The retained values are kept in a second JetStream stream, because they can outlive
// the event log's entries that set them. The stream holds a snapshot, split into
// chunks, and a head that describes the snapshot. A new snapshot has new chunks. Once
// its head has been stored, everything before its first chunk is removed.

// retainedStream returns the name of the stream that holds the retained values.
func (n *Node) retainedStream() string { return n.cfg.Name + "_retained" }

// snapshotHead is the head of a snapshot.
type snapshotHead struct {
	*clusterv1.RetainedHead

	revision uint64 // the head's sequence number in the stream; 0 if there is no head
}

// applied returns the last position of l that the snapshot includes. A snapshot from an
// earlier epoch may include positions that l doesn't have.
func (h snapshotHead) applied(l eventLog) uint64 {
	if h.GetEpoch() == l.epoch {
		return h.GetApplied()
	}
	return min(h.GetApplied(), (l.base+1)*eventsPerEntry-1)
}

// snapshot holds the retained values that a node starts with.
type snapshot struct {
	head   snapshotHead
	values []broker.RetainedValue
}

func decodeValue(in *clusterv1.RetainedValue) (broker.RetainedValue, error) {
	m, err := decode(in.GetMessage())
	return broker.RetainedValue{
		ID: in.GetId(), Audience: m.Audience, Topics: m.Topics, ExcludeUser: m.ExcludeUser, ConflateKey: m.ConflateKey,
		Event: m.Event, Data: m.Data, Final: m.Final, At: in.GetAt(), Expires: in.GetExpires(),
	}, err
}

func encodeValue(v broker.RetainedValue) *clusterv1.RetainedValue {
	m := broker.Message{
		Audience: v.Audience, Topics: v.Topics, ExcludeUser: v.ExcludeUser, ConflateKey: v.ConflateKey,
		Event: v.Event, Data: v.Data, Final: v.Final,
	}
	return &clusterv1.RetainedValue{Message: encode(&m), Id: v.ID, At: v.At, Expires: v.Expires}
}

// restore restores the retained values from a snapshot in the broker, which must have
// begun l.
func (n *Node) restore(s snapshot, l eventLog) {
	applied := s.head.applied(l)
	if err := n.broker.RestoreRetained(s.values, slices.Clone(s.head.GetRejected()), applied); err != nil {
		n.log.Error("retained values are lost", "stream", n.retainedStream(), "error", err)
	}
	if entry := applied / eventsPerEntry; entry+1 < l.first {
		switch {
		case s.head.revision < n.marks.snapshot():
			n.log.Error("retained values are lost", "stream", n.retainedStream(), "error", "the snapshot is missing or older than the last one that this node used",
				"revision", s.head.revision, "expected", n.marks.snapshot())
		case s.head.revision != 0:
			n.log.Warn("event log no longer has entries that the snapshot of the retained values lacks, values may be missing",
				"from", entry+1, "to", l.first-1)
		}
	}
	n.marks.noteSnapshot(s.head.GetEpoch(), s.head.revision)
	n.saver.restored(s.head, applied, n.broker.RetainedProgress().Changes)
}

// retainedConfig returns the configuration of the stream that holds the retained
// values.
func (n *Node) retainedConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        n.retainedStream(),
		Description: "The retained values of a cluster of peald.",
		Subjects:    []string{n.subjects.head, n.subjects.chunks},
		Replicas:    replicas,
		AllowDirect: true,
		Metadata:    map[string]string{metaFormat: currentFormat},
	}
}
