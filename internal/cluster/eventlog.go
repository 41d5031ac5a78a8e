package cluster

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Keys of the stream's metadata.
const (
	// metaEpoch is the epoch of event ids. It isn't derived from the stream's creation
	// time, because a backup of the stream has the same one.
	metaEpoch = "peald.epoch"
	// metaBase is the last entry that the stream had when it got its epoch. Entries up
	// to that one are from earlier epochs.
	metaBase = "peald.base"
	// metaPrevious is the previous epoch. Batches that were in flight when the epoch
	// changed may be from it.
	metaPrevious = "peald.previous"
	// metaRenewed is the time when the stream got its epoch, in RFC 3339. It is missing
	// if the stream has had its epoch since it was created.
	metaRenewed = "peald.renewed"
	// metaFormat is the format of the stream's messages.
	metaFormat    = "peald.format"
	currentFormat = "1"
)

// deduplicateFor is the window in which the stream detects repeated appends. It is
// longer than appendTimeout, for which appends are retried.
const deduplicateFor = 2 * time.Minute

// defaultReplicas is the number of replicas that the event log has by default.
const defaultReplicas = 3

// position identifies an entry in the event log by its number and the time when the
// stream stored it. The time distinguishes the entry from another one with the same
// number.
type position struct {
	entry uint64
	at    time.Time
}

// eventLog describes the stream as its leader reported it.
type eventLog struct {
	epoch, previous   string
	base, first, last uint64
	lastAt            time.Time // when the last entry was stored
	leader            string    // the leader's name; empty if there is only one server
	at                time.Time // by the leader's clock
	complete          time.Time // by the leader's clock; no entry stored later is missing, unless it is damaged
	replicas          int
	hasBase           bool // the stream was created or adopted by a version that keeps marks
}

// accepts reports whether a batch from the given epoch can be the given entry of the
// event log. Batches from versions that recorded no epoch are always accepted.
func (l *eventLog) accepts(epoch string, entry uint64) bool {
	return epoch == l.epoch || epoch == "" || epoch == l.previous || entry <= l.base
}

// describe returns the event log that info describes.
func describe(info *jetstream.StreamInfo) (eventLog, error) {
	format := info.Config.Metadata[metaFormat]
	epoch := info.Config.Metadata[metaEpoch]
	if epoch == "" || format != currentFormat {
		return eventLog{}, fmt.Errorf("stream %q: not a peald event log, or one from another version (format %q); want format %q",
			info.Config.Name, format, currentFormat)
	}
	base, hasBase := info.Config.Metadata[metaBase]
	l := eventLog{
		epoch: epoch, previous: info.Config.Metadata[metaPrevious],
		first: max(info.State.FirstSeq, 1), last: info.State.LastSeq, lastAt: info.State.LastTime,
		replicas: info.Config.Replicas, hasBase: hasBase, at: info.TimeStamp, complete: info.Created,
	}
	if info.Cluster != nil {
		l.leader = info.Cluster.Leader
	}
	if hasBase {
		var err error
		if l.base, err = strconv.ParseUint(base, 10, 64); err != nil {
			return eventLog{}, fmt.Errorf("stream %q: invalid %s: %w", info.Config.Name, metaBase, err)
		}
	}
	if renewed, ok := info.Config.Metadata[metaRenewed]; ok {
		var err error
		if l.complete, err = time.Parse(time.RFC3339Nano, renewed); err != nil {
			return eventLog{}, fmt.Errorf("stream %q: invalid %s: %w", info.Config.Name, metaRenewed, err)
		}
	}
	if oldest := oldestKept(&info.State); oldest.After(l.complete) {
		l.complete = oldest
	}
	return l, nil
}

// oldestKept returns the time before which entries may have been removed, or the zero
// time if none have been.
func oldestKept(state *jetstream.StreamState) time.Time {
	switch {
	case state.FirstSeq <= 1:
		return time.Time{}
	case state.Msgs == 0:
		return state.LastTime.Add(1)
	default:
		return state.FirstTime
	}
}
