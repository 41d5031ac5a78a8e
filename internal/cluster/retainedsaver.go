package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	// saveCheck is the time between checks of whether the retained values must be
	// saved.
	saveCheck = 500 * time.Millisecond
	// saveDelay is the minimum time between a change and the snapshot that includes it,
	// so that a snapshot can include many changes. Large snapshots wait longer: see
	// saveRate.
	saveDelay = 2 * time.Second
	// saveRate limits how fast snapshots are written, in bytes of values per second.
	saveRate = 2 << 20
	// saveTimeout limits how long reading or writing a snapshot may take.
	saveTimeout = time.Minute
	// lastSaveTimeout takes the place of saveTimeout when a node stops.
	lastSaveTimeout = 10 * time.Second
	// chunkBytes is the size of a chunk, unless it holds a single larger value.
	chunkBytes = 256 << 10
)

// saver saves snapshots of the retained values. Every node has a saver. The node that
// leads the event log saves first, and the others save only if it doesn't.
type saver struct {
	node *Node

	mu      sync.Mutex
	head    snapshotHead // of the latest known snapshot
	applied uint64       // the last position in the open event log that the snapshot includes
	changes uint64       // broker.RetainedProgress.Changes as of that position, or earlier
	due     time.Time    // when changes must be saved; zero if there are none
	failing bool         // the last attempt failed
}

// restored records the snapshot that the node started with.
func (s *saver) restored(head snapshotHead, applied, changes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.applied, s.changes, s.due = head, applied, changes, time.Time{}
}

// run saves snapshots until ctx is done. If this node leads the event log, run then
// saves one last snapshot.
func (s *saver) run(ctx context.Context) {
	tick := time.NewTicker(saveCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if s.node.leads() && s.isDirty() {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSaveTimeout)
				s.report(s.save(last))
				cancel()
			}
			return
		case now := <-tick.C:
			if s.isDue(now) {
				saving, cancel := context.WithTimeout(ctx, saveTimeout)
				s.report(s.save(saving))
				cancel()
			}
		}
	}
}

// isDirty reports whether the node is serving and has changes to save.
func (s *saver) isDirty() bool {
	if serving, _ := s.node.Serving(); !serving {
		return false
	}
	progress := s.node.broker.RetainedProgress()
	s.mu.Lock()
	defer s.mu.Unlock()
	return progress.Changes != s.changes
}

// isDue reports whether the node must save a snapshot now.
func (s *saver) isDue(now time.Time) bool {
	n := s.node
	if serving, _ := n.Serving(); !serving {
		return false
	}
	progress := n.broker.RetainedProgress()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case progress.Changes == s.changes && !s.isBehind() && !s.isFromEarlierEpoch():
		s.due = time.Time{}
		return false
	case s.due.IsZero():
		delay := saveDelay + time.Duration(progress.Bytes)*time.Second/saveRate
		if !n.leads() {
			delay *= 3
			delay += rand.N(delay)
		}
		s.due = now.Add(delay)
	}
	return !now.Before(s.due)
}

// isBehind reports whether the event log may soon remove entries that the snapshot
// doesn't include. Even if those entries don't change any value, a node must know that
// when it starts. The caller must hold s.mu.
func (s *saver) isBehind() bool {
	first, last := s.node.logRange()
	return s.head.revision != 0 && s.applied/eventsPerEntry < first+(last-first)/2
}

// isFromEarlierEpoch reports whether the latest known snapshot is from an earlier epoch
// of the event log. A node must be able to recognize it as its own. The caller must hold
// s.mu.
func (s *saver) isFromEarlierEpoch() bool {
	return s.head.revision != 0 && s.head.GetEpoch() != s.node.openEpoch()
}

// report records the outcome of a save, and logs its error unless the previous save
// failed too.
func (s *saver) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = time.Time{}
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		s.failing = false
	case !s.failing:
		s.failing = true
		s.node.log.Warn("cannot save the retained values", "error", err)
	}
}

// save saves a snapshot, unless another node has saved one that includes as much.
func (s *saver) save(ctx context.Context) error {
	n := s.node
	release, ok := n.storage.hold()
	if !ok {
		return nil // the next attempt is due soon
	}
	defer release()

	s.mu.Lock()
	changes := s.changes
	s.mu.Unlock()
	state, progress := n.broker.RetainedState()
	if n.openEpoch() != state.Epoch {
		return nil // another event log is being opened
	}
	head, err := n.readHead(ctx)
	if err != nil {
		return err
	}
	unchanged := progress.Changes == changes
	switch {
	case head.GetEpoch() == state.Epoch && head.GetApplied() >= progress.Applied:
		s.saved(head, progress)
		return nil
	case unchanged && head.revision == 0:
		return nil
	}

	stream, err := n.openRetained(ctx)
	if err != nil {
		return err
	}
	next := &clusterv1.RetainedHead{Epoch: state.Epoch, Applied: state.Applied, Rejected: state.Rejected}
	s.mu.Lock()
	known := s.head
	s.mu.Unlock()
	if unchanged && head.revision == known.revision && head.GetEpoch() == state.Epoch {
		next.Id, next.Chunks, next.First = head.GetId(), head.GetChunks(), head.GetFirst()
	} else if err := n.writeChunks(ctx, state, next); err != nil {
		return err
	}
	revision, err := n.writeHead(ctx, next, head.revision)
	if err != nil {
		return err
	}
	s.saved(snapshotHead{next, revision}, progress)

	keep := revision
	if next.GetFirst() != 0 {
		keep = next.GetFirst()
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(keep)); err != nil {
		return fmt.Errorf("removing the previous snapshot: %w", err)
	}
	return nil
}

// saved records that the latest snapshot has the given head and includes the given
// progress.
func (s *saver) saved(head snapshotHead, progress broker.RetainedProgress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.applied, s.changes = head, head.GetApplied(), progress.Changes
	s.node.marks.noteSnapshot(head.GetEpoch(), head.revision)
}

// openRetained opens the stream that holds the retained values, and creates it if it
// doesn't exist. It gives the stream as many replicas as the event log has.
func (n *Node) openRetained(ctx context.Context) (jetstream.Stream, error) {
	replicas := n.logReplicas()
	stream, err := n.js.Stream(ctx, n.retainedStream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = n.js.CreateStream(ctx, n.retainedConfig(replicas))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = n.js.Stream(ctx, n.retainedStream())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the stream %s: %w", n.retainedStream(), err)
	}
	cfg := stream.CachedInfo().Config
	if format := cfg.Metadata[metaFormat]; format != currentFormat {
		return nil, fmt.Errorf("the stream %s has the format %q; want %q", cfg.Name, format, currentFormat)
	}
	if cfg.Replicas != replicas {
		cfg.Replicas = replicas
		changed, err := n.js.UpdateStream(ctx, cfg)
		if err != nil {
			n.log.Debug("cannot change the replicas of the retained values", "replicas", replicas, "error", err)
			return stream, nil // the next save tries again
		}
		stream = changed
	}
	return stream, nil
}

// writeChunks writes the chunks of a snapshot and describes them in head.
func (n *Node) writeChunks(ctx context.Context, state broker.RetainedState, head *clusterv1.RetainedHead) error {
	id := rand.Uint64()
	head.Id = id
	var futures []jetstream.PubAckFuture
	chunk, size := &clusterv1.RetainedChunk{Id: id}, 0
	flush := func() error {
		data, err := proto.Marshal(chunk)
		if err != nil {
			return fmt.Errorf("encoding retained values: %w", err)
		}
		future, err := n.js.PublishMsgAsync(&nats.Msg{Subject: n.subjects.chunks, Data: data},
			jetstream.WithExpectStream(n.retainedStream()), jetstream.WithRetryAttempts(0))
		if err != nil {
			return fmt.Errorf("writing retained values: %w", err)
		}
		futures = append(futures, future)
		chunk, size = &clusterv1.RetainedChunk{Id: id, Index: uint32(len(futures))}, 0
		return nil
	}

	for v := range state.Values() {
		encoded := encodeValue(v)
		n := proto.Size(encoded)
		if size > 0 && size+n > chunkBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		chunk.Values = append(chunk.Values, encoded)
		size += n
	}
	if size > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	head.Chunks = uint32(len(futures))
	for i, future := range futures {
		select {
		case ack := <-future.Ok():
			if i == 0 {
				head.First = ack.Sequence
			}
		case err := <-future.Err():
			return fmt.Errorf("writing retained values: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("writing retained values: %w", ctx.Err())
		}
	}
	return nil
}

// writeHead writes the head of a snapshot and returns its revision. It fails unless the
// latest head still has the given revision.
func (n *Node) writeHead(ctx context.Context, head *clusterv1.RetainedHead, revision uint64) (uint64, error) {
	data, err := proto.Marshal(head)
	if err != nil {
		return 0, fmt.Errorf("encoding the head of a snapshot: %w", err)
	}
	ack, err := n.js.PublishMsg(ctx, &nats.Msg{Subject: n.subjects.head, Data: data},
		jetstream.WithExpectStream(n.retainedStream()), jetstream.WithExpectLastSequencePerSubject(revision))
	if err != nil {
		return 0, fmt.Errorf("writing the head of a snapshot: %w", err)
	}
	return ack.Sequence, nil
}
