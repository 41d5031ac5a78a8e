package cluster

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// errNotThere is of an entry that a replica was asked for and doesn't have.
var errNotThere = errors.New("the replica that was asked doesn't have the entry")

// holeAfter is for how long replicas may lack an entry before the log's leader is
// asked for it. They lag by milliseconds.
const holeAfter = 3 * time.Second

// hole describes an entry that can't be read.
type hole struct {
	entry uint64
	since time.Time
}

// missing is called when the entry that comes next can't be had from a replica.
// It returns errOtherLog when the log has to be read anew, from behind the hole.
//
// The only replica is the log. Of several, others may have what one has lost.
func (r *reader) missing(ctx context.Context) error {
	n := r.node
	now := time.Now()
	if r.hole.entry != r.next {
		r.hole = hole{r.next, now}
	}
	if r.log.replicas > 1 && now.Sub(r.hole.since) < holeAfter {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	stream, err := n.js.Stream(asking, n.cfg.Name)
	if err != nil {
		return nil // it is asked for again
	}
	found, err := describe(stream.CachedInfo())
	if err != nil || found.epoch != r.log.epoch || found.first > r.next {
		return errOtherLog // it has been let go meanwhile
	}
	if found.replicas > 1 {
		switch entry, err := n.askForEntry(asking, r.next); {
		case err == nil:
			return r.apply(ctx, entry.seq, entry.at, entry.data)
		case !errors.Is(err, errNotThere):
			return nil
		}
	}
	behind := r.follows
	if behind == 0 {
		if behind, err = r.readableFrom(ctx, r.next+1, found.last); err != nil {
			return err
		}
	}
	n.log.Error("the event log has a gap and begins behind it: clients with earlier ids get a reset", "from", r.next, "to", behind-1)
	if found.replicas > 1 {
		n.skipped = skipped{r.log.epoch, behind}
		return errOtherLog
	}
	// What is damaged must not be written to.
	purging, cancel := context.WithTimeout(ctx, fillFor)
	defer cancel()
	if err := stream.Purge(purging, jetstream.WithPurgeSequence(behind)); err != nil {
		n.log.Error("cannot remove what precedes the gap", "error", err)
		n.skipped = skipped{r.log.epoch, behind}
	}
	return errOtherLog
}

// skipped is where the reading of a log begins that has a hole before that.
type skipped struct {
	epoch string
	first uint64
}

// from returns the first entry of a log to read.
func (s *skipped) from(l log) uint64 {
	if s.epoch == l.epoch {
		return max(s.first, l.first)
	}
	return l.first
}

// readableFrom returns the first entry from one on, up to another, that can be
// read; or what follows them if none can.
func (r *reader) readableFrom(ctx context.Context, first, last uint64) (uint64, error) {
	if first > last {
		return last + 1, nil
	}
	bad, good, step := first-1, uint64(0), uint64(1)
	for at := first; good == 0; at = min(bad+step, last) {
		found, err := r.firstBehind(ctx, at)
		switch {
		case err == nil:
			good = found
		case !errors.Is(err, errNotThere):
			return 0, err
		case at == last:
			return last + 1, nil
		default:
			bad, step = at, 2*step
		}
	}
	for bad+1 < good {
		at := bad + (good-bad)/2
		found, err := r.firstBehind(ctx, at)
		switch {
		case err == nil && found >= good:
			good = at
			if found == good {
				return found, nil
			}
		case err == nil:
			good = found
		case errors.Is(err, errNotThere):
			bad = at
		default:
			return 0, err
		}
	}
	return good, nil
}

// firstBehind returns the first entry from seq on that a replica has. An entry of
// another log counts as missing.
func (r *reader) firstBehind(ctx context.Context, seq uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, fillFor)
	defer cancel()
	entries, err := jetstreamext.GetBatch(ctx, r.node.js, r.node.cfg.Name, 1, jetstreamext.GetBatchSeq(seq))
	if err != nil {
		return 0, err
	}
	for entry, err := range entries {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return 0, errNotThere
		}
		if err != nil {
			return 0, err
		}
		if r.foreign(entry.Sequence, entry.Data) {
			return 0, errNotThere
		}
		return entry.Sequence, nil
	}
	return 0, errNotThere
}

// rawEntry is an entry as the log's leader has it.
type rawEntry struct {
	seq  uint64
	at   time.Time
	data []byte
}

// notFound is JetStream's code for a message that a stream doesn't have.
const notFound = 10037

// askForEntry asks the log's leader for an entry: a replica that has lost it
// would be asked first by its own node, each time.
func (n *Node) askForEntry(ctx context.Context, seq uint64) (rawEntry, error) {
	msg, err := n.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+n.cfg.Name, fmt.Appendf(nil, `{"seq":%d}`, seq))
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
	case reply.Error != nil && reply.Error.Code == notFound:
		return rawEntry{}, errNotThere
	case reply.Error != nil:
		return rawEntry{}, errors.New(reply.Error.Description)
	case reply.Message.Seq != seq:
		return rawEntry{}, errNotThere
	}
	data, err := base64.StdEncoding.DecodeString(reply.Message.Data)
	return rawEntry{seq, reply.Message.Time, data}, err
}
