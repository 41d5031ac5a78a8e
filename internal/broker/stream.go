package broker

import (
	"slices"
	"time"
)

// Sink puts a stream's bytes onto its connection. The stream's shard calls it,
// never two calls at a time, and calls nothing after Close.
type Sink interface {
	// Write takes what it can of the pieces, in order and without blocking,
	// and returns the bytes taken. When that is less than all, the sink calls
	// Stream.Ready once it can take more. An error means that the connection
	// is of no use any more. The pieces' bytes may be kept and must not be
	// changed; the slice that holds them may not be kept.
	Write(pieces [][]byte) (int, error)
	// Close ends the connection, after what Write has taken is out or lost
	// for good.
	Close(Reason)
}

// Reason is why a stream ended.
type Reason uint8

// The reasons for which a stream ends.
const (
	// HungUp: the client closed the connection or vanished.
	HungUp Reason = iota
	// WriteFailed: the connection broke while it was written.
	WriteFailed
	// SlowConsumer: the queue was full, and the policy is to disconnect.
	SlowConsumer
	// WriteTimeout: the connection took no byte for Config.WriteTimeout.
	WriteTimeout
	// Expired: the token that opened the stream ended.
	Expired
	// Shutdown: the daemon is stopping.
	Shutdown
	// Disconnected: the control plane asked for it.
	Disconnected
	// Drained: the streams were sent away, to come back elsewhere or later.
	Drained
	// Suspended: the daemon could not go on, and others may.
	Suspended

	reasons
)

// String returns the reason's name in figures and logs.
func (r Reason) String() string {
	return [...]string{"hung_up", "write_failed", "slow_consumer", "write_timeout", "expired", "shutdown", "disconnected", "drained", "suspended"}[r]
}

// Reasons returns all reasons.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for r := range all {
		all[r] = Reason(r)
	}
	return all
}

// Subscription says what a stream is to get, and for how long.
type Subscription struct {
	// User is whose stream it is; empty for an anonymous one.
	User string
	// Topics are the topics and patterns that the stream is to get, valid by
	// ValidPattern and without doubles.
	Topics []string
	// LastEventID is the last event that the client got from a stream before;
	// empty for none.
	LastEventID string
	// Expires is when the stream is to end; zero for never.
	Expires time.Time
}

// Stream is one open connection as its shard sees it.
type Stream struct {
	shard   *shard
	account *account       // nil for an anonymous stream
	topics  *subscriptions // nil for a stream without
	sink    Sink
	resume  *resumption // before the stream has joined; nil without a last event id
	matched uint64      // the last event that was for one of its patterns; guarded by Broker.mu

	// What follows belongs to the shard's goroutine.

	queue    queue
	cursor   uint64 // events up to this sequence are not for the mailbox to bring: they precede the stream, or come from the log
	sent     uint64 // sequence of the last event handed to the sink
	index    int32  // the stream's place in shard.streams, -1 when it has none
	replayed int32  // events that came from the log
	lastSent int64  // when bytes were last handed to the sink, Unix nanoseconds
	expires  int64  // Unix nanoseconds, 0 for never
	stuck    int64  // since when the sink has taken nothing, Unix nanoseconds
	dirty    bool   // stands in shard.dirty
	blocked  bool   // the sink is to call Ready
	closed   bool
	behind   bool   // events past cursor come from the log
	gone     bool   // the client hung up before the stream had joined
	leaving  bool   // ends once the queue is out
	left     bool   // the broker no longer counts it
	why      Reason // for which it is leaving
}

// resumption holds the position that a stream resumes from.
type resumption struct {
	lastID string // the last event that the client got
	reset  string // why the stream can't resume from lastID, if it can't
}

// subscriptions are a stream's topics.
type subscriptions struct {
	names    []string
	patterns bool          // one of the names is a pattern
	groups   []*topicGroup // where the stream stands, by name; guarded by Broker.mu
}

// NewStream prepares a stream, which holds nothing until it is started.
func (b *Broker) NewStream(sub Subscription) *Stream {
	st := &Stream{shard: b.shardFor(sub.User), index: -1}
	if sub.LastEventID != "" {
		st.resume = &resumption{lastID: sub.LastEventID}
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

// CloseReason returns the reason under which the end of a stream is counted that
// Sink.Close is called for with why. Only Sink.Close may call it.
func (st *Stream) CloseReason(why Reason) Reason {
	if st.left {
		return st.why // as watches were told
	}
	return why
}

// Shard returns the number of the shard that the stream belongs to.
func (st *Stream) Shard() int { return st.shard.number }

// Opening describes how a stream begins on its connection.
type Opening struct {
	// Head goes out before everything else, as it is; usually the head of a
	// response.
	Head []byte
	// Chunked sends each block as a chunk of HTTP/1.1's chunked transfer
	// coding, and the last chunk at the end of a stream that is closed in good
	// order. Otherwise the sink gets bare blocks.
	Chunked bool
}

// Start opens the stream onto sink: o.Head goes out first, then the stream's
// first block, then events. It returns ErrClosed once the broker is closing, and
// ErrSuspended while it takes no streams; the caller must close the sink then.
// After Start has succeeded only the stream's shard closes it.
func (st *Stream) Start(sink Sink, o Opening) error {
	st.sink = sink
	st.queue.chunked = o.Chunked
	return st.shard.broker.join(st, &event{frame: rawFrame(o.Head)})
}

// Ready tells the stream's shard that the sink can take more bytes, after a
// Write that took less than all.
func (st *Stream) Ready() { st.shard.post(item{kind: ready, stream: st}) }

// HangUp tells the stream's shard that the client is gone.
func (st *Stream) HangUp() { st.shard.post(item{kind: hangUp, stream: st}) }
