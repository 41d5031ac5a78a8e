package broker

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
	"golang.org/x/sync/semaphore"
)

// SlowPolicy determines what happens to a stream whose queue is full.
type SlowPolicy string

// The policies for slow consumers.
const (
	// Disconnect closes the stream. The client reconnects on its own.
	Disconnect SlowPolicy = "disconnect"
	// DropOldest drops the oldest queued events and sends a peald.reset event
	// in their place.
	DropOldest SlowPolicy = "drop-oldest"
	// Conflate keeps only the newest queued event for each conflate key. If the
	// queue is still full, the stream is closed.
	Conflate SlowPolicy = "conflate"
)

// MaxQueueBytes is the maximum value of Config.QueueBytes.
const MaxQueueBytes = 1 << 30

// Config configures a Broker. Every field except MaxAge, Retain, Topics and Replica is
// required.
type Config struct {
	// Shards is the number of shards, at least 1.
	Shards int
	// QueueBytes limits the bytes queued for one stream, and is at most MaxQueueBytes.
	// A single event may be larger: an empty queue accepts any event. Bytes are counted
	// as sent on the connection, so a compressed event counts at its compressed size.
	QueueBytes int
	// SlowConsumer determines what happens to a stream whose queue is full.
	SlowConsumer SlowPolicy
	// Heartbeat is the time between two heartbeats on an idle stream.
	Heartbeat time.Duration
	// Retry is the time that clients wait before they reconnect. Each stream
	// gets up to a quarter more or less, so that clients don't all reconnect
	// at once.
	Retry time.Duration
	// WriteTimeout limits how long a connection may go without accepting bytes
	// while bytes are queued for it.
	WriteTimeout time.Duration
	// MaxAge is the age at which a stream is closed as if by a drain, so that its
	// client connects again. Each stream gets up to a tenth more or less. It is at most
	// MaxStreamAge; 0 for no limit.
	MaxAge time.Duration
	// History limits the event history.
	History History
	// Retain limits the retained values.
	Retain Retain
	// Topics holds the policies for topics, in order of precedence.
	Topics []TopicPolicy
	// IdempotencyWindow is how long idempotency keys are remembered.
	IdempotencyWindow time.Duration
	// Replica means that the order of events is defined elsewhere. In that case,
	// the broker follows an event log, through Begin and Apply, and assigns no ids
	// itself. It is suspended until the log begins.
	Replica bool
}

// Broker accepts messages and queues them for the streams of their audience.
// Its methods are safe for concurrent use.
type Broker struct {
	cfg      atomic.Pointer[Config]   // stored under mu
	ids      atomic.Pointer[idFormat] // stored under mu
	replica  bool
	started  time.Time
	shards   []*shard
	hashSeed maphash.Seed
	turn     atomic.Uint32 // assigns anonymous streams to shards round-robin
	running  sync.WaitGroup
	stop     chan struct{} // closed when the broker closes

	// backlog limits the bytes of events that shards have not yet moved to
	// their queues, so that publishers can't outrun the shards.
	backlog *semaphore.Weighted

	mu         sync.Mutex
	closed     bool
	suspended  bool             // no stream may join
	suspension *drain           // closes the streams that the suspension affects; nil for none
	generation int              // number of event logs that have begun
	seq        uint64           // the last assigned sequence number
	passed     uint64           // every further entry in a replica's log has a higher sequence number
	waiters    []*waiter        // clients that are waiting for a replica to catch up
	logEnd     logEnd           // the last known end of a replica's log
	published  [audiences]int64 // messages accepted
	reads      [audiences]int64 // pages read by ReadMessages
	accounts   *btree.BTreeG[*account]
	topics     topics
	digester   digester
	history    history
	retained   retained
	replies    replies
	clock      logClock // of a replica's log
	bans       *btree.BTreeG[Ban]
	watches    map[*Watch]struct{}
	taps       map[*Tap]struct{}
	changes    *Changes   // nil until Changes is called
	mail       []delivery // scratch space of post
	open       []int      // number of streams by shard
	total      int        // number of streams
	anonymous  int        // number of anonymous streams
	resumes    Resumes
	since      Resumes // of streams that started at a time in the past
	rewinds    Resumes
	polls      pollCounters
	fresh      Resumes // of streams that started at the current end, with retained values
	replays    histogram
}

// account is a user who has at least one stream. It is guarded by Broker.mu.
type account struct {
	id          string
	connections int32
	closing     int32   // of these, counted by disconnect
	since       int64   // Unix nanoseconds
	group       group   // owned by the shard
	listed      *Stream // those that have topics, linked by subscriptions.next; see account.unlist
	unlisted    int32   // streams in listed that have left
}

// maxBacklog is the capacity of Broker.backlog, in bytes.
const maxBacklog = 64 << 20

// New starts a broker. The caller must call Close.
func New(cfg Config) *Broker {
	now, digester := time.Now(), newDigester()
	b := &Broker{
		replica:  cfg.Replica,
		started:  now,
		replays:  newHistogram(replayBounds()),
		hashSeed: maphash.MakeSeed(),
		digester: digester,
		backlog:  semaphore.NewWeighted(maxBacklog),
		accounts: btree.NewG(32, func(a, b *account) bool { return a.id < b.id }),
		topics:   newTopics(),
		history:  newHistory(cfg.History, newPolicies(cfg.Topics), digester, now.UnixNano()),
		retained: newRetained(cfg.Retain, digester),
		replies:  newReplies(cfg.IdempotencyWindow),
		bans:     btree.NewG(32, func(a, b Ban) bool { return a.User < b.User }),
		watches:  make(map[*Watch]struct{}),
		taps:     make(map[*Tap]struct{}),
		open:     make([]int, cfg.Shards),
		stop:     make(chan struct{}),
	}
	for _, counts := range []*Resumes{&b.resumes, &b.since, &b.rewinds, &b.fresh} {
		counts.Resets = make(map[string]int64)
	}
	b.cfg.Store(&cfg)
	b.ids.Store(newIDFormat(NewEpoch()))
	b.suspended = cfg.Replica

	bounds := latencyBounds()
	for i := range cfg.Shards {
		b.shards = append(b.shards, newShard(b, i, bounds))
	}

	b.running.Go(b.removeExpired)
	for _, s := range b.shards {
		b.running.Go(s.run)
	}
	return b
}

// id returns the id of a position on the wire, "<epoch>-<sequence>".
func (b *Broker) id(seq uint64) string { return string(appendID(nil, b.ids.Load().epoch, seq)) }

// steady returns the nanoseconds since the broker started, plus 1. Unlike the
// wall clock, it never jumps, so durations and timeouts are measured with it.
func (b *Broker) steady() int64 { return int64(time.Since(b.started)) + 1 }

// head returns the position of the last event.
func (b *Broker) head() position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return position{b.generation, b.seq}
}

// removeExpired removes expired events, idempotency keys and bans once a second
// until the broker closes, even if nothing is published.
func (b *Broker) removeExpired() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case now := <-tick.C:
			b.mu.Lock()
			b.history.evict(b.logNow())
			if !b.replica { // a replica's keys and retained values expire when entries are applied
				b.replies.forget(now.UnixNano())
				b.retained.expire(now.UnixNano())
			}
			b.removeExpiredBans(now)
			b.mu.Unlock()
		}
	}
}

// Publish validates m, assigns it the next id and queues it for the streams of
// its audience. It returns an *InvalidError for a message that can't be an
// event, ErrKeyUsed if its idempotency key belongs to another message, a
// *RetainFullError if there is no room to retain it, ErrClosed once the broker is
// closing, and ctx's error if ctx ends while Publish is waiting for shards to catch
// up.
func (b *Broker) Publish(ctx context.Context, m Message) (Receipt, error) {
	if err := m.Validate(); err != nil {
		return Receipt{}, err
	}

	ids := b.ids.Load()
	buf := encodeFields(&m, ids.room)
	e := newEvent(&m, int32(min(len(buf), maxBacklog)))
	if err := b.backlog.Acquire(ctx, int64(e.cost)); err != nil {
		return Receipt{}, fmt.Errorf("waiting for shards to catch up: %w", err)
	}

	receipt, posted, err := b.order(&m, e, ids, buf, new(placement))
	if !posted {
		b.backlog.Release(int64(e.cost))
	}
	return receipt, err
}

// placement describes an entry in a replica's log. It is the zero placement for a
// message that is published on this broker alone.
type placement struct {
	foreign  bool    // accepted by another node, and not counted as published here
	verdict  Verdict // on the idempotency key
	retain   Retain  // the limits of the node that published it
	byPolicy bool    // a policy on that node retains the message for its audience
	others   []bool  // the same for each of Message.Topics; nil for none
}

// order assigns e and its siblings a sequence number, unless it has one, appends them to
// the history and posts them to the shards of their audiences. It reports whether any
// shard got one.
func (b *Broker) order(m *Message, e *event, ids *idFormat, buf []byte, p *placement) (r Receipt, posted bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return r, false, ErrClosed
	}

	if e.seq == 0 {
		e.seq, e.at = b.seq+1, time.Now().UnixNano()
	}
	if m.TTL > 0 {
		e.expires = e.at + int64(m.TTL)
	}
	if earlier, event, err := b.replies.find(m, e.at, p.verdict); event > 0 || err != nil {
		if earlier.ID == "" && err == nil {
			earlier.ID = b.id(event) // this replica never applied that event
		}
		return earlier, false, err
	}

	siblings := e.siblings()
	if siblings != nil {
		siblings.place()
	}
	var room [1]*retainedValue
	values, err := b.retain(room[:0], m, e, len(buf)-ids.room, p)
	if err != nil {
		return r, false, err
	}

	b.seq = e.seq
	if !p.foreign {
		b.published[e.audience.kind]++
	}
	e.frame, r.ID = seal(buf, ids.room, ids.epoch, e.seq)
	if siblings != nil {
		siblings.share()
	}
	b.history.append(e)
	for _, v := range values {
		b.retained.put(v)
	}
	r.Recipients, posted = b.fanOut(e)
	b.replies.remember(m, e.seq, r, e.at)
	if len(b.waiters) > 0 {
		b.releaseWaiters()
	}
	return r, posted, nil
}

// Shards returns the number of shards.
func (b *Broker) Shards() int { return len(b.shards) }

func (b *Broker) shardFor(user string) *shard {
	n := uint64(len(b.shards))
	if user == "" {
		return b.shards[uint64(b.turn.Add(1))%n]
	}
	return b.shards[maphash.String(b.hashSeed, user)%n]
}

// Closed reports whether the broker is closing or has closed.
func (b *Broker) Closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Close closes all streams and returns when the broker's goroutines have
// finished. Each connection still gets as many of its queued bytes as it
// immediately accepts. As soon as Close is called, Publish and Start return
// ErrClosed.
func (b *Broker) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.stop)
		for w := range b.watches {
			b.endWatch(w, ErrClosed)
		}
		for t := range b.taps {
			t.wake()
		}
		for _, s := range b.shards {
			s.post(item{kind: shutdown})
		}
	}
	b.mu.Unlock()
	b.running.Wait()
}
