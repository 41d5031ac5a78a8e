package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/peald/peald/internal/broker"
)

// errOtherLog ends the reading of a log that is not the cluster's any more, or
// of which entries are gone that had to be read.
var errOtherLog = errors.New("the log has to be read anew")

const (
	// liveBuffer is how many entries may wait to be applied; those beyond
	// are read again.
	liveBuffer = 4096
	// fillEntries and fillBytes bound what is asked of a replica at once.
	fillEntries = 512
	fillBytes   = 8 << 20
	fillFor     = 5 * time.Second
)

// reader applies entries in their order.
type reader struct {
	node     *Node
	log      log
	next     uint64            // the entry that comes next
	last     map[uint64]uint64 // the number of the last batch, by incarnation
	old      []uint64          // incarnations, the longest known first
	hole     hole              // at next, if it can't be read
	follows  uint64            // what a replica has in its place; 0 if unknown
	rejected string            // the epoch of the last batch that is of another log
}

// readAll reads the log, from its beginning again where it has to, until ctx
// ends.
func (n *Node) readAll(ctx context.Context) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		err := n.readLog(ctx)
		if errors.Is(err, broker.ErrClosed) {
			// What is appended from here on has nobody to read it back.
			n.appender.close(broker.ErrClosed)
			return
		}
		if err != nil && ctx.Err() == nil {
			n.troubled(n.explain(err))
			n.log.Debug("the log can't be read", "error", err)
		}
		again.Reset(retryAfter)
	}
}

// readLog reads one log from its beginning.
func (n *Node) readLog(ctx context.Context) error {
	opening, cancel := context.WithTimeout(ctx, probeTimeout)
	l, err := n.openLog(opening)
	cancel()
	if err != nil {
		return err
	}
	// First of all, so that nothing is missing behind what is filled in.
	live := make(chan *nats.Msg, liveBuffer)
	sub, err := n.conn.ChanSubscribe(n.subjects.live, live)
	if err != nil {
		return fmt.Errorf("subscribing to the log: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	l.first = n.skipped.from(l)
	n.begin(l)
	r := &reader{node: n, log: l, next: l.first, last: make(map[uint64]uint64)}
	if err := r.fill(ctx, l.last); err != nil {
		return err
	}
	n.wakeProber()
	return r.follow(ctx, live)
}

// follow applies what comes live, and fills in what doesn't.
func (r *reader) follow(ctx context.Context, live <-chan *nats.Msg) error {
	n := r.node
	var missing uint64 // the next entry, when it was first found to be there and not to come
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case msg := <-live:
			if err := r.take(ctx, msg); err != nil {
				return err
			}
		case <-n.tail:
			known, ok := n.readable(r.next)
			if !ok {
				return errOtherLog
			}
			if known < r.next || len(live) > 0 || missing != r.next {
				missing = r.next // it may be on its way
				continue
			}
			if err := r.fill(ctx, known); err != nil {
				return err
			}
		}
	}
}

// take applies an entry that came live, behind those that it shows to be
// missing.
func (r *reader) take(ctx context.Context, msg *nats.Msg) error {
	seq, at, err := place(msg)
	if err != nil {
		r.node.log.Warn("something else is published where the log's entries are", "subject", msg.Subject, "error", err)
		return nil
	}
	if r.foreign(seq, msg.Data) {
		r.reject(seq, msg.Data) // it may not even be in this log
		return nil
	}
	if seq > r.next {
		if err := r.fill(ctx, seq-1); err != nil {
			return err
		}
	}
	if seq < r.next {
		return nil
	}
	return r.apply(ctx, seq, at, msg.Data)
}

// fill reads entries from a replica, up to one that the stream is known to
// have.
func (r *reader) fill(ctx context.Context, upTo uint64) error {
	n := r.node
	for r.next <= upTo {
		n.gapFills.Add(1)
		err := r.fillSome(ctx)
		if errors.Is(err, errOtherLog) || errors.Is(err, broker.ErrClosed) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			// The replica that answered doesn't have it yet, or none does.
			n.log.Debug("a gap in the log can't be filled yet", "entry", r.next, "error", err)
			n.reading(err.Error())
			if errors.Is(err, errNotThere) {
				if err := r.missing(ctx); err != nil {
					return err
				}
			}
			if _, ok := n.readable(r.next); !ok {
				return errOtherLog
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(retryAfter):
			}
		}
	}
	n.reading("")
	return nil
}

func (r *reader) fillSome(ctx context.Context) error {
	r.follows = 0
	asking, cancel := context.WithTimeout(ctx, fillFor)
	defer cancel()
	entries, err := jetstreamext.GetBatch(asking, r.node.js, r.node.cfg.Name, fillEntries,
		jetstreamext.GetBatchSeq(r.next), jetstreamext.GetBatchMaxBytes(fillBytes))
	if err != nil {
		return err
	}
	for entry, err := range entries {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return errNotThere
		}
		if err != nil {
			return err
		}
		if entry.Sequence < r.next {
			continue
		}
		if entry.Sequence > r.next {
			// The stream has let go what comes next, or has lost it.
			r.follows = entry.Sequence
			return errNotThere
		}
		if r.foreign(entry.Sequence, entry.Data) {
			if err := r.replaced(asking, entry); err != nil {
				return err
			}
			continue
		}
		if err := r.apply(ctx, entry.Sequence, entry.Time, entry.Data); err != nil {
			return err
		}
	}
	return nil
}

// place is where a live message stands in the stream.
func place(msg *nats.Msg) (seq uint64, at time.Time, err error) {
	if seq, err = strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64); err != nil {
		return 0, at, fmt.Errorf("its sequence: %w", err)
	}
	at, err = time.Parse(time.RFC3339Nano, msg.Header.Get(jetstream.TimeStampHeaer))
	return seq, at, err
}

// apply applies the entry that comes next.
func (r *reader) apply(ctx context.Context, seq uint64, at time.Time, data []byte) error {
	n := r.node
	batch, err := decodeBatch(data)
	if err != nil {
		n.log.Error("an entry of the log can't be read, and is left out", "entry", seq, "error", err)
		r.done(seq, at)
		return nil
	}
	own := batch.GetIncarnation() == n.appender.incarnation
	if !r.log.accepts(batch.GetEpoch(), seq) {
		r.reject(seq, data)
		if own {
			n.appender.giveUp(batch.GetNumber(), &broker.UnavailableError{Reason: "the event log has begun a new epoch meanwhile; the message was not published"})
		}
		r.done(seq, at)
		return nil
	}
	if !r.isNext(batch.GetIncarnation(), batch.GetNumber()) {
		r.done(seq, at)
		return nil
	}
	n.marks.note(r.log.epoch, seq, at)
	var outcomes []outcome
	for i, in := range batch.GetMessages() {
		var o outcome
		m, err := decode(in)
		if err != nil {
			n.log.Error("a message of the log is not valid, and is left out", "entry", seq, "error", err)
			o.err = err
		} else {
			o.receipt, o.err = n.broker.Apply(ctx, &broker.Entry{Seq: seq*eventsPerEntry + uint64(i), At: at, Own: own, Verdict: verdict(batch, in, r.log.epoch), Message: m})
			if errors.Is(o.err, broker.ErrClosed) || ctx.Err() != nil {
				return o.err
			}
		}
		if own {
			outcomes = append(outcomes, o)
		}
	}
	if own {
		n.appender.read(batch.GetNumber(), outcomes)
	}
	r.done(seq, at)
	return nil
}

// foreign reports whether an entry is of another log.
func (r *reader) foreign(seq uint64, data []byte) bool {
	batch, err := decodeBatch(data)
	return err == nil && !r.log.accepts(batch.GetEpoch(), seq)
}

// replaced is called with a foreign entry that is read from a replica. Its files
// may be another log's: others have the entry then that belongs there, and a node
// alone has lost it, since nobody else appends to its log.
func (r *reader) replaced(ctx context.Context, is *jetstream.RawStreamMsg) error {
	n := r.node
	if n.alone() && is.Sequence <= r.log.last {
		return errNotThere
	}
	if r.log.replicas > 1 {
		entry, err := n.askForEntry(ctx, is.Sequence)
		if err != nil {
			return err
		}
		return r.apply(ctx, entry.seq, entry.at, entry.data)
	}
	return r.apply(ctx, is.Sequence, is.Time, is.Data)
}

// reject leaves out a batch of another log: one that a cluster of the same name
// has appended or published here.
func (r *reader) reject(seq uint64, data []byte) {
	batch, err := decodeBatch(data)
	if err != nil || r.rejected == batch.GetEpoch() {
		return
	}
	r.rejected = batch.GetEpoch()
	r.node.log.Error("rejected entries of another event log: another cluster has the same cluster.name and reaches this one",
		"entry", seq, "epoch", r.rejected, "want", r.log.epoch)
}

func (r *reader) done(seq uint64, at time.Time) {
	r.next = seq + 1
	r.node.newest.Store(&position{seq, at})
	r.node.applied.Store(seq)
}

// maxIncarnations is how many of them are remembered. A batch that was given
// up is late by seconds, in which not many nodes start.
const maxIncarnations = 4096

// isNext says whether a batch follows those of its incarnation, and is not one
// that comes again or was given up before a later one.
func (r *reader) isNext(incarnation, number uint64) bool {
	last, known := r.last[incarnation]
	if number <= last {
		return false
	}
	if !known {
		if len(r.old) == maxIncarnations {
			delete(r.last, r.old[0])
			r.old = r.old[1:]
		}
		r.old = append(r.old, incarnation)
	}
	r.last[incarnation] = number
	return true
}
