package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// errNoEntry means that the queried replica doesn't have the entry.
var errNoEntry = errors.New("the replica doesn't have the entry")

// gapAfter is how long replicas may lack an entry before it is requested from the
// leader. They usually lag by milliseconds.
const gapAfter = 3 * time.Second

// gap is an entry that can't be read.
type gap struct {
	entry uint64
	since time.Time
}

// resolveGap is called when a replica doesn't have the next entry. If no other replica
// has it either, resolveGap returns errReopen: the event log must be reopened to
// continue after the gap.
//
// If there is only one replica, the entry is lost. If there are several, resolveGap
// waits for gapAfter, and then requests the entry from the leader.
func (r *reader) resolveGap(ctx context.Context) error {
	n := r.node
	now := time.Now()
	if r.gap.entry != r.next {
		r.gap = gap{r.next, now}
	}
	if r.eventLog.replicas > 1 && now.Sub(r.gap.since) < gapAfter {
		return nil
	}

	asking, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	stream, err := n.js.Stream(asking, n.cfg.Name)
	if err != nil {
		return nil // the caller will try again
	}
	found, err := describe(stream.CachedInfo())
	if err != nil || found.epoch != r.eventLog.epoch || found.first > r.next {
		return errReopen // the entry has expired in the meantime
	}
	if found.replicas > 1 {
		switch entry, err := n.entryFromLeader(asking, r.next); {
		case err == nil:
			return r.apply(ctx, entry.seq, entry.at, entry.data)
		case !errors.Is(err, errNoEntry):
			return nil
		}
	}

	end := r.gapEnd
	if end == 0 {
		if end, err = r.firstReadable(ctx, r.next+1, found.last); err != nil {
			return err
		}
	}
	n.log.Error("event log has a gap, clients with earlier ids get a reset", "from", r.next, "to", end-1)
	if found.replicas > 1 {
		n.skip = skipped{r.eventLog.epoch, end}
		return errReopen
	}

	// Entries must not be appended to a damaged file.
	purging, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	if err := stream.Purge(purging, jetstream.WithPurgeSequence(end)); err != nil {
		n.log.Error("cannot remove the entries before the gap", "error", err)
		n.skip = skipped{r.eventLog.epoch, end}
	}
	return errReopen
}

// skipped is the first entry to read in an event log with a gap before that entry.
type skipped struct {
	epoch string
	first uint64
}

// apply moves the start of l past the gap, if l has one.
func (s *skipped) apply(l *eventLog) {
	if s.epoch == l.epoch && s.first > l.first {
		l.first, l.complete = s.first, l.at // the time of the gap is unknown
	}
}

// firstReadable returns the first readable entry between first and last, inclusive, or
// last+1 if there is none.
func (r *reader) firstReadable(ctx context.Context, first, last uint64) (uint64, error) {
	if first > last {
		return last + 1, nil
	}

	// Double the step until an entry is readable, then bisect.
	bad, good, step := first-1, uint64(0), uint64(1)
	for at := first; good == 0; at = min(bad+step, last) {
		found, err := r.firstFrom(ctx, at)
		switch {
		case err == nil:
			good = found
		case !errors.Is(err, errNoEntry):
			return 0, err
		case at == last:
			return last + 1, nil
		default:
			bad, step = at, 2*step
		}
	}

	for bad+1 < good {
		at := bad + (good-bad)/2
		found, err := r.firstFrom(ctx, at)
		switch {
		case err == nil && found >= good:
			good = at
			if found == good {
				return found, nil
			}
		case err == nil:
			good = found
		case errors.Is(err, errNoEntry):
			bad = at
		default:
			return 0, err
		}
	}

	return good, nil
}

// firstFrom returns the first entry at or after seq that a replica has. It returns
// errNoEntry if that entry belongs to another event log.
func (r *reader) firstFrom(ctx context.Context, seq uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	entries, err := jetstreamext.GetBatch(ctx, r.node.js, r.node.cfg.Name, 1, jetstreamext.GetBatchSeq(seq))
	if err != nil {
		return 0, err
	}
	for entry, err := range entries {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return 0, errNoEntry
		}
		if err != nil {
			return 0, err
		}
		if r.isForeign(entry.Sequence, entry.Data) {
			return 0, errNoEntry
		}
		return entry.Sequence, nil
	}
	return 0, errNoEntry
}

// rawEntry is an entry in the form in which the leader returned it.
type rawEntry struct {
	seq  uint64
	at   time.Time
	data []byte
}

// entryFromLeader requests an entry from the event log's leader.
func (n *Node) entryFromLeader(ctx context.Context, seq uint64) (rawEntry, error) {
	entry, err := n.messageFromLeader(ctx, n.cfg.Name, fmt.Sprintf(`{"seq":%d}`, seq))
	if err == nil && entry.seq != seq {
		err = errNoEntry
	}
	return entry, err
}
