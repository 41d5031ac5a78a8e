package broker

import (
	"slices"
	"time"
)

// Sink writes a stream's bytes to its connection. The stream's shard makes all
// calls, one at a time, and none after Close.
type Sink interface {
	// Write accepts as many bytes of the pieces as it can, in order and
	// without blocking, and returns how many it accepted. After a short count
	// the sink must call Stream.Ready once it can accept more. An error means
	// that the connection is unusable. The sink may keep the bytes of the
	// pieces but must not change them, and must not keep the slice that holds
	// the pieces.
	Write(pieces [][]byte) (int, error)
	// Close closes the connection, once the bytes that Write accepted have been
	// sent or lost.
	Close(Reason)
}

// Flusher is a sink that may keep the bytes that Write accepted until Flush is
// called, so that several streams on one connection share a write.
type Flusher interface {
	Sink
	// Unflushed reports whether the sink keeps bytes until Flush is called. The shard
	// calls it after Write.
	Unflushed() bool
	// Flush sends what Write has accepted, without blocking. The shard calls it
	// after it has written to some streams, but not after Close.
	Flush()
}

// Reason is a close reason: why a stream was closed.
type Reason uint8

// The close reasons.
const (
	// HungUp means that the client closed the connection or vanished.
	HungUp Reason = iota
	// WriteFailed means that the connection broke during a write.
	WriteFailed
	// SlowConsumer means that the queue was full and the policy is to
	// disconnect.
	SlowConsumer
	// WriteTimeout means that the connection accepted no bytes for
	// Config.WriteTimeout.
	WriteTimeout
	// Expired means that the token that opened the stream expired.
	Expired
	// Shutdown means that the daemon is shutting down.
	Shutdown
	// Disconnected means that a control call disconnected the user.
	Disconnected
	// Drained means that a drain closed the stream, so that the client
	// reconnects elsewhere or later.
	Drained
	// Suspended means that this daemon can't continue the stream, although other
	// daemons may be able to.
	Suspended
	// Ended means that the only topic of the stream has ended.
	Ended
	// Answered means that a poll was answered.
	Answered
	// MaxAge means that the stream reached Config.MaxAge, so that the client
	// reconnects, perhaps elsewhere.
	MaxAge

	reasons
)

// String returns the reason's name in metrics and logs.
func (r Reason) String() string {
	return [...]string{"hung_up", "write_failed", "slow_consumer", "write_timeout", "expired", "shutdown", "disconnected", "drained", "suspended", "ended", "answered", "max_age"}[r]
}

// Reasons returns all reasons.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for r := range all {
		all[r] = Reason(r)
	}
	return all
}

// Subscription describes what a stream gets, and for how long.
type Subscription struct {
	// User is the stream's user; empty for an anonymous stream.
	User string
	// Topics are the topics and patterns that the stream subscribes to. Each
	// must be valid according to ValidPattern, and there must be no
	// duplicates.
	Topics []string
	// LastEventID is the id of the last event that the client received on an
	// earlier stream; empty for none.
	LastEventID string
	// Start determines where the stream starts if LastEventID is empty.
	Start Start
	// Expires is the time at which the stream is closed; zero for never.
	Expires time.Time
}

// Stream is one open connection from its shard's point of view.
type Stream struct {
	shard   *shard
	account *account       // nil for an anonymous stream
	topics  *subscriptions // nil for a stream without topics
	sink    Sink
	resume  *resumption // until the stream is live; nil if it starts now
	matched uint64      // the last event that matched one of its patterns, or of several topics; guarded by Broker.mu

	// The fields below belong to the shard's goroutine.

	queue        queue
	cursor       uint64 // events up to this sequence number don't come from the mailbox: they precede the stream or come from the history
	sent         uint64 // sequence number of the last event that the sink accepted; initially the position that the stream starts from
	index        int32  // in shard.streams, or in drains.closing for a stream that is closing; -1 if in neither
	birth        birth
	lastSent     int64 // when the sink last accepted bytes, by Broker.steady
	expires      int64 // Unix nanoseconds, 0 for never
	blockedSince int64 // if stalled, when the sink stopped accepting bytes, by Broker.steady
	phase        phase
	closeReason  Reason // from phaseDraining or phaseStopping on
	dirty        bool   // listed in shard.dirty
	flushes      bool   // sink is a Flusher
	writeBlocked bool   // the sink will call Ready
	stalled      bool   // the last Write fell short
	timed        bool   // listed in shard.blocked
	catchingUp   bool   // events after cursor come from the history
}

// resumption holds the position from which a stream resumes.
type resumption struct {
	lastID  string // the last event that the client received
	earlier *earlier
	reset   string // why events are missing after that position; empty if none are

	filter   digestFilter // see Broker.filter; nil before it is first used
	values   *startValues // retained values that precede that position; nil if there are none
	replayed int32        // events that came from the history
	counted  bool         // the outcome was counted when the stream joined
	ended    bool         // the stream must be closed once it is live, because its topic has ended
	ends     []string     // the topics that had ended before, for a stream that also has others
}

// earlier is the position of a stream without a last event id that starts in the past.
type earlier struct {
	start  Start
	first  []*event // the first events to replay
	cursor uint64   // the stream's cursor after them
	known  uint64   // see Stream.knownEvictions

	// prepareStart sets the fields below.
	scanned    bool     // the timeline, for a stream with patterns; the others are set only then
	found      position // before the last events, or after the last slot that was checked
	incomplete bool     // events after the start have been evicted
}

// subscriptions holds a stream's topics.
type subscriptions struct {
	names    []string
	patterns bool // at least one of the names is a pattern

	// The fields below are guarded by Broker.mu.

	left   bool          // the stream has left
	groups []*topicGroup // the groups that the stream is in, by name; nil for a name that is in topics.patterns
	next   *Stream       // in account.listed
}

// NewStream prepares a stream. The stream holds no resources until Start is
// called.
func (b *Broker) NewStream(sub Subscription) *Stream {
	st := &Stream{shard: b.shardFor(sub.User), index: -1}
	switch {
	case sub.LastEventID != "":
		st.resume = &resumption{lastID: sub.LastEventID}
	case sub.Start.kind != startNow:
		st.resume = &resumption{earlier: &earlier{start: sub.Start}}
	}
	if len(sub.Topics) > 0 {
		st.topics = &subscriptions{
			names:    sub.Topics,
			patterns: slices.ContainsFunc(sub.Topics, isPattern),
			groups:   make([]*topicGroup, len(sub.Topics)),
		}
	}
	if sub.User != "" {
		st.account = &account{id: sub.User}
	}
	if !sub.Expires.IsZero() {
		st.expires = sub.Expires.UnixNano()
	}
	return st
}

// CloseReason returns the reason under which a closed stream is counted, given the
// reason that was passed to Sink.Close. Only Sink.Close may call it.
func (st *Stream) CloseReason(why Reason) Reason {
	if st.phase.counted() {
		return why
	}
	return st.closeReason // watches already got this one
}

// Shard returns the number of the shard that the stream belongs to.
func (st *Stream) Shard() int { return st.shard.number }

// Opening describes how a stream starts on its connection.
type Opening struct {
	// Head is written first, unchanged. It is usually the head of a response.
	Head []byte
	// Chunked sends each block as a chunk of HTTP/1.1's chunked transfer
	// coding, and the last chunk when the stream is closed gracefully.
	// Otherwise the sink gets bare blocks.
	Chunked bool
	// Gzip sends a body with the gzip content coding (RFC 1952). Each block is a piece
	// of it that can be decompressed as soon as it has arrived. Large events are
	// compressed, once for all streams.
	Gzip bool
	// Envelope replaces the data of each published event with a JSON object that
	// also contains its audience, type and time. It is encoded once for all streams.
	Envelope bool
}

// form returns the form of the stream's body.
func (o Opening) form() (f form) {
	if o.Chunked {
		f |= chunked
	}
	if o.Gzip {
		f |= gzipped
	}
	if o.Envelope {
		f |= enveloped
	}
	return f
}

// Start opens the stream on sink. It writes o.Head, then the stream's first
// block, then events. Start returns ErrClosed once the broker is closing, and
// ErrSuspended while the broker accepts no streams. In both cases, the caller
// must close the sink itself. After Start has succeeded, only the stream's
// shard closes the sink.
func (st *Stream) Start(sink Sink, o Opening) error {
	st.sink = sink
	_, st.flushes = sink.(Flusher)
	st.queue.form = o.form()
	st.shard.broker.prepareStart(st)
	return st.shard.broker.join(st, &event{frame: rawFrame(o.Head)})
}

// Ready notifies the stream's shard that the sink can accept more bytes after a
// short Write.
func (st *Stream) Ready() { st.shard.post(item{kind: ready, stream: st}) }

// HangUp notifies the stream's shard that the client is gone.
func (st *Stream) HangUp() { st.shard.post(item{kind: hangUp, stream: st}) }
