package broker

import "time"

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

	reasons
)

// String returns the reason's name in figures and logs.
func (r Reason) String() string {
	return [...]string{"hung_up", "write_failed", "slow_consumer", "write_timeout", "expired", "shutdown"}[r]
}

// Subscription says what a stream is to get, and for how long.
type Subscription struct {
	// User is whose stream it is; empty for an anonymous one.
	User string
	// Expires is when the stream is to end; zero for never.
	Expires time.Time
}

// Stream is one open connection as its shard sees it.
type Stream struct {
	shard   *shard
	account *account // nil for an anonymous stream
	sink    Sink

	// What follows belongs to the shard's goroutine.

	queue    queue
	sent     uint64 // sequence of the last event handed to the sink
	index    int32  // the stream's place in shard.streams, -1 when it has none
	lastSent int64  // when bytes were last handed to the sink, Unix nanoseconds
	expires  int64  // Unix nanoseconds, 0 for never
	stuck    int64  // since when the sink has taken nothing, Unix nanoseconds
	dirty    bool   // stands in shard.dirty
	blocked  bool   // the sink is to call Ready
	closed   bool
	gone     bool // the client hung up before the stream had joined
}

// NewStream prepares a stream, which holds nothing until it is started.
func (b *Broker) NewStream(sub Subscription) *Stream {
	st := &Stream{shard: b.shardFor(sub.User), index: -1}
	if sub.User != "" {
		st.account = &account{id: sub.User}
	}
	if !sub.Expires.IsZero() {
		st.expires = sub.Expires.UnixNano()
	}
	return st
}

// Shard returns the number of the shard that the stream belongs to.
func (st *Stream) Shard() int { return st.shard.number }

// Start opens the stream onto sink: preamble goes out first, then the stream's
// first block, then events. It returns ErrClosed once the broker is closing;
// the sink is then the caller's to close. From here on the shard alone closes
// it.
func (st *Stream) Start(sink Sink, preamble []byte) error {
	st.sink = sink
	return st.shard.broker.join(st, &event{frame: preamble})
}

// Ready tells the stream's shard that the sink can take more bytes, after a
// Write that took less than all.
func (st *Stream) Ready() { st.shard.post(item{kind: ready, stream: st}) }

// HangUp tells the stream's shard that the client is gone.
func (st *Stream) HangUp() { st.shard.post(item{kind: hangUp, stream: st}) }
