package cluster

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/synadia-io/orbit.go/jetstreamext"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

var (
	// errSnapshotMoved means that another snapshot has replaced the one being read, or
	// that a replica is lagging.
	errSnapshotMoved = errors.New("the snapshot of the retained values is being replaced")
	// errSnapshotDamaged means that a snapshot can't be decoded.
	errSnapshotDamaged = errors.New("the snapshot of the retained values is damaged")
	// errSnapshotForeign means that a snapshot belongs to another event log.
	errSnapshotForeign = errors.New("the snapshot of the retained values belongs to another event log")
)

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

	s, err := n.tryReadSnapshot(ctx)
	switch {
	case err == nil:
		n.snapshotFailures = 0
		return s, nil
	case n.noRetained.Swap(false):
		n.log.Warn("not permitted to use the stream with the retained values, starting without them", "stream", n.retainedStream())
		return snapshot{}, nil
	case ctx.Err() != nil || !n.isPermanent(err):
		return snapshot{}, fmt.Errorf("reading the retained values: %w", err)
	}
	n.snapshotFailures = 0
	n.log.Error("retained values are lost", "stream", n.retainedStream(), "error", err)
	return snapshot{head: snapshotHead{revision: s.head.revision}}, nil
}

// tryReadSnapshot reads the latest snapshot once. If that fails, the snapshot has no
// values, and its head has no more than its revision.
func (n *Node) tryReadSnapshot(ctx context.Context) (s snapshot, err error) {
	if s.head, err = n.readHead(ctx); err != nil {
		return s, err
	}
	if n.standalone() && s.head.revision != 0 && !n.marks.hasHad(s.head.GetEpoch()) {
		return s, errSnapshotForeign
	}
	if s.head.GetChunks() > 0 {
		s.values, err = n.readChunks(ctx, s.head)
	}
	return s, err
}

// isPermanent counts a failed attempt to read a snapshot, and reports whether further
// attempts are pointless.
func (n *Node) isPermanent(err error) bool {
	if errors.Is(err, errSnapshotForeign) {
		return true
	}
	_, replied := errors.AsType[*replyError](err)
	switch {
	case errors.Is(err, errSnapshotDamaged), errors.Is(err, errSnapshotMoved):
	case n.standalone() && replied: // there is no other replica
	default:
		return false
	}
	n.snapshotFailures++
	return n.standalone() || n.snapshotFailures >= snapshotAttempts
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
		return head, fmt.Errorf("%w: its head: %w", errSnapshotDamaged, err)
	}
	return head, nil
}

// readChunks returns the values in a snapshot. It reads them from any replica. After a
// failed attempt, it reads them from the leader, because the replica that replies first
// may be damaged.
func (n *Node) readChunks(ctx context.Context, head snapshotHead) (values []broker.RetainedValue, err error) {
	read := n.chunksFromReplica
	if n.snapshotFailures > 0 {
		read = n.chunksFromLeader
	}
	for next, index := head.GetFirst(), uint32(0); index < head.GetChunks(); {
		for entry, err := range read(ctx, next) {
			if errors.Is(err, errNoEntry) {
				return nil, errSnapshotMoved
			}
			if err != nil {
				return nil, err
			}
			next = entry.seq + 1
			chunk := new(clusterv1.RetainedChunk)
			if err := proto.Unmarshal(entry.data, chunk); err != nil {
				return nil, fmt.Errorf("%w: chunk %d: %w", errSnapshotDamaged, index, err)
			}
			if chunk.GetId() != head.GetId() || index == head.GetChunks() {
				continue // from an unfinished snapshot by another node
			}
			if chunk.GetIndex() != index {
				return nil, errSnapshotMoved
			}
			if values, err = appendValues(values, chunk); err != nil {
				return nil, fmt.Errorf("%w: chunk %d: %w", errSnapshotDamaged, index, err)
			}
			index++
		}
	}
	return values, nil
}

// chunksFromReplica requests chunks from any replica, beginning at or after the message
// with the given sequence number. The error is errNoEntry if there are none.
func (n *Node) chunksFromReplica(ctx context.Context, seq uint64) iter.Seq2[rawEntry, error] {
	return func(yield func(rawEntry, error) bool) {
		entries, err := jetstreamext.GetBatch(ctx, n.js, n.retainedStream(), fillEntries,
			jetstreamext.GetBatchSeq(seq), jetstreamext.GetBatchSubject(n.subjects.chunks), jetstreamext.GetBatchMaxBytes(fillBytes))
		if err != nil {
			yield(rawEntry{}, err)
			return
		}
		for entry, err := range entries {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				err = errNoEntry
			}
			if err != nil {
				yield(rawEntry{}, err)
				return
			}
			if !yield(rawEntry{entry.Sequence, entry.Time, entry.Data}, nil) {
				return
			}
		}
	}
}

// chunksFromLeader is like chunksFromReplica, but requests one chunk from the leader.
func (n *Node) chunksFromLeader(ctx context.Context, seq uint64) iter.Seq2[rawEntry, error] {
	return func(yield func(rawEntry, error) bool) {
		yield(n.messageFromLeader(ctx, n.retainedStream(), fmt.Sprintf(`{"seq":%d,"next_by_subj":%q}`, seq, n.subjects.chunks)))
	}
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

// Codes of JetStream errors.
const (
	codeNoMessage = 10037 // the stream doesn't have the message
	codeNoStream  = 10059
)

// replyError is an error that JetStream returned.
type replyError struct {
	Code        int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *replyError) Error() string { return e.Description }

// messageFromLeader requests a message from a stream's leader. It returns errNoEntry if
// the leader doesn't have the message, or if there is no such stream, and a *replyError
// if JetStream returns another error. A request that any replica may answer wouldn't
// do: it would go first to the replica on this node, which may have lost the message.
func (n *Node) messageFromLeader(ctx context.Context, stream, request string) (rawEntry, error) {
	msg, err := n.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, []byte(request))
	if err != nil {
		return rawEntry{}, err
	}
	var reply struct {
		Error   *replyError `json:"error"`
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
		return rawEntry{}, reply.Error
	}
	data, err := base64.StdEncoding.DecodeString(reply.Message.Data)
	return rawEntry{reply.Message.Seq, reply.Message.Time, data}, err
}
