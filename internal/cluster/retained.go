package cluster

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"google.golang.org/protobuf/proto"

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

// errSnapshotMoved means that another snapshot has replaced the one being read, or that
// a replica is lagging.
var errSnapshotMoved = errors.New("the snapshot of the retained values is being replaced")

// snapshotAttempts is the number of attempts to read a snapshot before it counts as
// damaged. The event log is reopened for each attempt, with the usual delays.
const snapshotAttempts = 20

// readSnapshot returns the latest snapshot of the retained values. It returns an empty
// snapshot if there is none, or if the latest one is permanently unreadable.
func (n *Node) readSnapshot(ctx context.Context) (snapshot, error) {
	release, ok := n.storage.hold()
	if !ok {
		return snapshot{}, errRestarting
	}
	defer release()

	var s snapshot
	head, err := n.readHead(ctx)
	if err != nil && n.noRetained.Swap(false) {
		n.log.Warn("not permitted to use the stream with the retained values, starting without them", "stream", n.retainedStream())
		return snapshot{}, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading the retained values: %w", err)
	}
	s.head = head
	if head.GetChunks() == 0 {
		n.snapshotFailures = 0
		return s, nil
	}
	s.values, err = n.readChunks(ctx, head)
	if err == nil {
		n.snapshotFailures = 0
		return s, nil
	}
	if n.snapshotFailures++; n.snapshotFailures < snapshotAttempts || ctx.Err() != nil {
		return s, fmt.Errorf("reading the retained values: %w", err)
	}
	n.snapshotFailures = 0
	n.log.Error("retained values are lost", "stream", n.retainedStream(), "error", err)
	return snapshot{head: snapshotHead{revision: head.revision}}, nil
}

// readHead returns the head of the latest snapshot, or an empty head if there is no
// snapshot.
func (n *Node) readHead(ctx context.Context) (snapshotHead, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	head := snapshotHead{RetainedHead: new(clusterv1.RetainedHead)}
	stored, err := n.messageFromLeader(ctx, n.retainedStream(), fmt.Sprintf(`{"last_by_subj":%q}`, n.subjects.head))
	switch {
	case errors.Is(err, errNoEntry):
		return head, nil
	case err != nil:
		return head, err
	}
	head.revision = stored.seq
	if err := proto.Unmarshal(stored.data, head.RetainedHead); err != nil {
		return head, fmt.Errorf("head of the snapshot: %w", err)
	}
	return head, nil
}

// readChunks returns the values in a snapshot.
func (n *Node) readChunks(ctx context.Context, head snapshotHead) (values []broker.RetainedValue, err error) {
	for next, index := head.GetFirst(), uint32(0); index < head.GetChunks(); {
		entries, err := jetstreamext.GetBatch(ctx, n.js, n.retainedStream(), fillEntries,
			jetstreamext.GetBatchSeq(next), jetstreamext.GetBatchSubject(n.subjects.chunks), jetstreamext.GetBatchMaxBytes(fillBytes))
		if err != nil {
			return nil, err
		}
		for entry, err := range entries {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				return nil, errSnapshotMoved
			}
			if err != nil {
				return nil, err
			}
			next = entry.Sequence + 1
			chunk := new(clusterv1.RetainedChunk)
			if err := proto.Unmarshal(entry.Data, chunk); err != nil {
				return nil, fmt.Errorf("chunk %d: %w", index, err)
			}
			if chunk.GetId() != head.GetId() || index == head.GetChunks() {
				continue // from an unfinished snapshot by another node
			}
			if chunk.GetIndex() != index {
				return nil, errSnapshotMoved
			}
			if values, err = appendValues(values, chunk); err != nil {
				return nil, fmt.Errorf("chunk %d: %w", index, err)
			}
			index++
		}
	}
	return values, nil
}

// appendValues appends the values in a chunk to dst.
func appendValues(dst []broker.RetainedValue, chunk *clusterv1.RetainedChunk) ([]broker.RetainedValue, error) {
	for _, v := range chunk.GetValues() {
		value, err := decodeValue(v)
		if err != nil {
			return nil, err
		}
		dst = append(dst, value)
	}
	return dst, nil
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
	if entry := applied / eventsPerEntry; s.head.revision != 0 && entry+1 < l.first {
		n.log.Warn("event log no longer has entries that the snapshot of the retained values lacks, values may be missing",
			"from", entry+1, "to", l.first-1)
	}
	n.saver.restored(s.head, applied, n.broker.RetainedProgress().Changes)
}

// Codes of JetStream errors.
const (
	codeNoMessage = 10037 // the stream doesn't have the message
	codeNoStream  = 10059
)

// messageFromLeader requests a message from a stream's leader. It returns errNoEntry if
// the leader doesn't have the message, or if there is no such stream. A request that
// any replica may answer wouldn't do: it would go first to the replica on this node,
// which may have lost the message.
func (n *Node) messageFromLeader(ctx context.Context, stream, request string) (rawEntry, error) {
	msg, err := n.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, []byte(request))
	if err != nil {
		return rawEntry{}, err
	}
	var reply struct {
		Error *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
		Message struct {
			Seq  uint64    `json:"seq"`
			Data string    `json:"data"`
			Time time.Time `json:"time"`
		} `json:"message"`
	}

	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return rawEntry{}, err
	}
	switch {
	case reply.Error != nil && (reply.Error.Code == codeNoMessage || reply.Error.Code == codeNoStream):
		return rawEntry{}, errNoEntry
	case reply.Error != nil:
		return rawEntry{}, errors.New(reply.Error.Description)
	}
	data, err := base64.StdEncoding.DecodeString(reply.Message.Data)
	return rawEntry{reply.Message.Seq, reply.Message.Time, data}, err
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
