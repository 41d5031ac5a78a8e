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

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// errReopen means that the open event log has been replaced, or that entries
// disappeared before they were read.
var errReopen = errors.New("the event log must be reopened")

const (
	// liveBuffer is the maximum number of live entries that are queued. Any others are
	// dropped and read again later.
	liveBuffer = 4096
	// fillEntries and fillBytes limit one request to a replica.
	fillEntries = 512
	fillBytes   = 8 << 20
	fillTimeout = 5 * time.Second
)

// reader applies the entries of one event log in order. It is owned by the
// goroutine that calls readAll.
type reader struct {
	node     *Node
	eventLog eventLog
	next     uint64 // the next entry

	lastBatch    map[uint64]uint64 // the number of the last batch, by incarnation
	incarnations []uint64          // the keys of lastBatch, oldest first

	gap           gap    // at next, if that entry can't be read
	gapEnd        uint64 // the first entry that a replica has after next; 0 if unknown
	rejectedEpoch string // epoch of the last batch from another event log
}

// readAll reads the event log until ctx is done. It reopens the log whenever necessary.
func (n *Node) readAll(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	delays := newBackOff()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		err := n.readLog(ctx)
		if errors.Is(err, broker.ErrClosed) {
			// From now on, nothing would read appended messages.
			n.appender.close(broker.ErrClosed)
			return
		}
		if errors.Is(err, errReopen) {
			delays.Reset()
		}
		if err != nil && ctx.Err() == nil {
			n.setTrouble(n.explain(err))
			n.log.Debug("cannot read the event log", "error", err)
		}
		next.Reset(delays.NextBackOff())
	}
}

// readLog opens the event log and reads it from its first entry.
func (n *Node) readLog(ctx context.Context) error {
	opening, cancel := context.WithTimeout(ctx, probeTimeout)
	l, err := n.openLog(opening)
	cancel()
	if err != nil {
		return err
	}

	// Subscribe before calling fill, so that no entry is missed in between.
	live := make(chan *nats.Msg, liveBuffer)
	sub, err := n.conn.ChanSubscribe(n.subjects.live, live)
	if err != nil {
		return fmt.Errorf("subscribing to the event log: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()

	loading, cancel := context.WithTimeout(ctx, saveTimeout)
	values, err := n.readSnapshot(loading)
	cancel()
	if err != nil {
		return err
	}

	n.skip.apply(&l)
	n.begin(l)
	n.restore(values, l)
	r := &reader{node: n, eventLog: l, next: l.first, lastBatch: make(map[uint64]uint64)}
	if err := r.fill(ctx, l.last); err != nil {
		return err
	}
	n.wakeProber()
	return r.follow(ctx, live)
}

// follow applies live entries and fills the gaps between them.
func (r *reader) follow(ctx context.Context, live <-chan *nats.Msg) error {
	n := r.node
	var missing uint64 // the next entry, once it has been found to be missing
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case msg := <-live:
			if err := r.applyLive(ctx, msg); err != nil {
				return err
			}
		case <-n.readWake:
			known, ok := n.readable(r.next)
			if !ok {
				return errReopen
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

// applyLive applies a live entry, after filling in any missing entries before it.
func (r *reader) applyLive(ctx context.Context, msg *nats.Msg) error {
	seq, at, err := livePosition(msg)
	if err != nil {
		r.node.log.Warn("malformed message on event log subject", "subject", msg.Subject, "error", err)
		return nil
	}
	if r.isForeign(seq, msg.Data) {
		r.reject(seq, msg.Data) // its sequence number may belong to another stream
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

// fill reads and applies entries from replicas. The event log must be known to have the
// entry upTo, which is the last one that fill reads.
func (r *reader) fill(ctx context.Context, upTo uint64) error {
	n := r.node
	delays := newBackOff()
	for r.next <= upTo {
		n.gapFills.Add(1)
		before := r.next
		err := r.fillSome(ctx)
		if errors.Is(err, errReopen) || errors.Is(err, broker.ErrClosed) || ctx.Err() != nil {
			return err
		}
		if r.next > before {
			delays.Reset()
		}
		if err == nil {
			continue
		}

		// The replica that replied may lag, or all replicas may lack the entry.
		n.log.Debug("cannot fill a gap in the event log yet", "entry", r.next, "error", err)
		n.setReadError(err.Error())
		if errors.Is(err, errNoEntry) {
			if err := r.resolveGap(ctx); err != nil {
				return err
			}
		}
		if _, ok := n.readable(r.next); !ok {
			return errReopen
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delays.NextBackOff()):
		}
	}

	n.setReadError("")
	return nil
}

// fillSome requests the next entries from a replica, and applies them.
func (r *reader) fillSome(ctx context.Context) error {
	r.gapEnd = 0
	asking, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	entries, err := jetstreamext.GetBatch(asking, r.node.js, r.node.cfg.Name, fillEntries,
		jetstreamext.GetBatchSeq(r.next), jetstreamext.GetBatchMaxBytes(fillBytes))
	if err != nil {
		return err
	}
	for entry, err := range entries {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return errNoEntry
		}
		if err != nil {
			return err
		}
		if entry.Sequence < r.next {
			continue
		}
		if entry.Sequence > r.next {
			// The next entry has expired or is lost.
			r.gapEnd = entry.Sequence
			return errNoEntry
		}
		if r.isForeign(entry.Sequence, entry.Data) {
			if err := r.replaceForeign(asking, entry); err != nil {
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

// livePosition returns the sequence number and the time of a live message.
func livePosition(msg *nats.Msg) (seq uint64, at time.Time, err error) {
	if seq, err = strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64); err != nil {
		return 0, at, fmt.Errorf("header %s: %w", jetstream.SequenceHeader, err)
	}
	at, err = time.Parse(time.RFC3339Nano, msg.Header.Get(jetstream.TimeStampHeaer))
	return seq, at, err
}

// apply applies the next entry.
func (r *reader) apply(ctx context.Context, seq uint64, at time.Time, data []byte) error {
	n := r.node
	batch, err := decodeBatch(data)
	if err != nil {
		n.log.Error("skipped a malformed entry in the event log", "entry", seq, "error", err)
		r.advance(seq, at)
		return nil
	}
	own := batch.GetIncarnation() == n.appender.incarnation
	if !r.eventLog.accepts(batch.GetEpoch(), seq) {
		r.reject(seq, data)
		if own {
			n.appender.giveUp(batch.GetNumber(), &broker.UnavailableError{Reason: "the event log has started a new epoch; the message was not published"})
		}
		r.advance(seq, at)
		return nil
	}

	if !r.isNext(batch.GetIncarnation(), batch.GetNumber()) {
		r.advance(seq, at)
		return nil
	}

	n.marks.note(r.eventLog.epoch, seq, at)
	var results []result
	for i, in := range batch.GetMessages() {
		res := r.applyMessage(ctx, batch, in, broker.Entry{Seq: seq*eventsPerEntry + uint64(i), At: at, Own: own})
		if errors.Is(res.err, broker.ErrClosed) || ctx.Err() != nil {
			return res.err
		}
		if own {
			results = append(results, res)
		}
	}

	if own {
		n.appender.acknowledge(batch.GetNumber(), results)
	}
	r.advance(seq, at)
	return nil
}

// applyMessage applies a message in a batch. The entry holds the message's position.
func (r *reader) applyMessage(ctx context.Context, batch *clusterv1.Batch, in *clusterv1.Message, entry broker.Entry) (res result) {
	b := r.node.broker
	if in.GetClear() != clusterv1.Clear_CLEAR_UNSPECIFIED {
		c, err := decodeClear(in)
		if err != nil {
			return r.skipMessage(entry, err)
		}
		res.cleared, res.err = b.ApplyClear(entry.Seq, entry.At.UnixNano(), c)
		return res
	}
	m, err := decode(in)
	if err != nil {
		return r.skipMessage(entry, err)
	}
	entry.Verdict, entry.Message = verdict(batch, in, r.eventLog.epoch), m
	entry.RetainedByPolicy, entry.TopicsRetainedByPolicy = in.GetRetainedByPolicy(), furtherPolicies(in)
	entry.Retain = broker.Retain{MaxEvents: int(batch.GetRetainMaxEvents()), MaxBytes: int(batch.GetRetainMaxBytes())}
	res.receipt, res.err = b.Apply(ctx, &entry)
	return res
}

// skipMessage logs an invalid message and returns the result for it.
func (r *reader) skipMessage(entry broker.Entry, err error) result {
	r.node.log.Error("skipped an invalid message in the event log", "entry", entry.Seq/eventsPerEntry, "error", err)
	return result{err: err}
}

// isForeign reports whether an entry belongs to another event log.
func (r *reader) isForeign(seq uint64, data []byte) bool {
	batch, err := decodeBatch(data)
	return err == nil && !r.eventLog.accepts(batch.GetEpoch(), seq)
}

// replaceForeign handles a foreign entry from a replica. The replica's files may belong
// to another event log, and the leader may have the right entry. A standalone node has
// lost that entry, since no other node appends to its event log.
func (r *reader) replaceForeign(ctx context.Context, foreign *jetstream.RawStreamMsg) error {
	n := r.node
	if n.standalone() && foreign.Sequence <= r.eventLog.last {
		return errNoEntry
	}
	if r.eventLog.replicas > 1 {
		entry, err := n.entryFromLeader(ctx, foreign.Sequence)
		if err != nil {
			return err
		}
		return r.apply(ctx, entry.seq, entry.at, entry.data)
	}
	return r.apply(ctx, foreign.Sequence, foreign.Time, foreign.Data)
}

// reject logs a batch from another event log, once per epoch. Another cluster with the
// same name has appended it to this event log or published it to its subjects.
func (r *reader) reject(seq uint64, data []byte) {
	batch, err := decodeBatch(data)
	if err != nil || r.rejectedEpoch == batch.GetEpoch() {
		return
	}
	r.rejectedEpoch = batch.GetEpoch()
	r.node.log.Error("rejected entries from another event log", "entry", seq, "epoch", r.rejectedEpoch, "want", r.eventLog.epoch)
}

// advance moves the reader past an entry.
func (r *reader) advance(seq uint64, at time.Time) {
	r.next = seq + 1
	r.node.broker.Advance(r.next*eventsPerEntry - 1)
	r.node.lastApplied.Store(&position{seq, at})
	r.node.applied.Store(seq)
}

// maxIncarnations is the number of incarnations that are remembered. If an abandoned
// batch still arrives, it does so within seconds, and few nodes start in that time.
const maxIncarnations = 4096

// isNext reports whether a batch follows the last one from its incarnation. A
// repetition doesn't, and neither does a batch that was abandoned and arrives after a
// later one.
func (r *reader) isNext(incarnation, number uint64) bool {
	last, known := r.lastBatch[incarnation]
	if number <= last {
		return false
	}
	if !known {
		if len(r.incarnations) == maxIncarnations {
			delete(r.lastBatch, r.incarnations[0])
			r.incarnations = r.incarnations[1:]
		}
		r.incarnations = append(r.incarnations, incarnation)
	}
	r.lastBatch[incarnation] = number
	return true
}
