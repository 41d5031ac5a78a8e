package broker

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
	"golang.org/x/sync/semaphore"

	"github.com/peald/peald/internal/eventstream"
)

// SlowPolicy is what becomes of a stream whose queue is full.
type SlowPolicy string

// The policies for slow consumers.
const (
	// Disconnect ends the stream; the client comes back by itself.
	Disconnect SlowPolicy = "disconnect"
	// DropOldest drops the oldest events that wait, and tells the client so
	// with a peald.reset event in their place.
	DropOldest SlowPolicy = "drop-oldest"
)

// Config is how a broker is set up. Every field is required but Logger.
type Config struct {
	// Shards is the number of shards, at least 1.
	Shards int
	// QueueBytes bounds what waits for one stream. A single event may be
	// larger: an empty queue takes any.
	QueueBytes int
	// SlowConsumer is what becomes of a stream whose queue is full.
	SlowConsumer SlowPolicy
	// Heartbeat is the time between two signs of life on an idle stream.
	Heartbeat time.Duration
	// Retry is what clients are told to wait before they reconnect; each
	// stream is told up to a quarter more or less, so that they don't all
	// come back at once.
	Retry time.Duration
	// WriteTimeout is how long a connection may take no byte of what waits
	// for it.
	WriteTimeout time.Duration
	// Logger gets what an operator should know; nothing where nil.
	Logger *slog.Logger
}

// Broker takes messages and queues them to the streams of their audience. Its
// methods may be called concurrently.
type Broker struct {
	cfg      Config
	log      *slog.Logger
	epoch    string
	idRoom   int
	started  time.Time
	shards   []*shard
	hashSeed maphash.Seed
	turn     atomic.Uint32 // the shard whose turn it is to take an anonymous stream
	running  sync.WaitGroup

	// backlog bounds the bytes of events that shards have not yet taken into
	// their queues, so that publishers can't run ahead of them.
	backlog *semaphore.Weighted

	mu       sync.Mutex
	closed   bool
	seq      uint64 // the last sequence that was given
	accounts *btree.BTreeG[*account]
	open     []int // streams by shard
	total    int   // streams in all
}

// account is a user who holds at least one stream. It is guarded by Broker.mu.
type account struct {
	id          string
	connections int
	since       time.Time
}

// maxBacklog is the bytes of events that may wait for their shards.
const maxBacklog = 64 << 20

// New starts a broker. Its Close must be called.
func New(cfg Config) *Broker {
	now := time.Now()
	b := &Broker{
		cfg:      cfg,
		log:      cfg.Logger,
		epoch:    strconv.FormatInt(now.UnixMilli(), 36),
		started:  now,
		hashSeed: maphash.MakeSeed(),
		backlog:  semaphore.NewWeighted(maxBacklog),
		accounts: btree.NewG(32, func(a, b *account) bool { return a.id < b.id }),
		open:     make([]int, cfg.Shards),
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.idRoom = idRoomFor(b.epoch)
	greetings := greetings(cfg.Retry)
	for i := range cfg.Shards {
		b.shards = append(b.shards, newShard(b, i, greetings))
	}
	for _, s := range b.shards {
		b.running.Go(s.run)
	}
	return b
}

// greetings are the first blocks of streams: what EventSource is to wait
// before it reconnects, differing from one to the next.
func greetings(retry time.Duration) []*event {
	events := make([]*event, 64)
	for i := range events {
		spread := retry / 2 * time.Duration(i) / time.Duration(len(events))
		frame := eventstream.AppendRetry(nil, retry-retry/4+spread)
		frame = eventstream.AppendComment(frame, "open")
		events[i] = &event{frame: eventstream.AppendEnd(frame)}
	}
	rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	return events
}

// Publish validates m, gives it the next id and queues it to its audience's
// streams. It returns an *InvalidError for a message that can't be an event,
// ErrClosed once the broker is closing, and ctx's error if ctx ends while it
// waits for shards that have fallen behind.
func (b *Broker) Publish(ctx context.Context, m Message) (Receipt, error) {
	if err := m.validate(); err != nil {
		return Receipt{}, err
	}
	buf := encodeFields(&m, b.idRoom)
	cost := int64(min(len(buf), maxBacklog))
	if err := b.backlog.Acquire(ctx, cost); err != nil {
		return Receipt{}, fmt.Errorf("waiting for shards to catch up: %w", err)
	}
	e := &event{at: time.Now(), cost: cost}
	receipt, posted, err := b.order(m.Audience, e, buf)
	if !posted {
		b.backlog.Release(cost)
	}
	return receipt, err
}

// order gives e its place and posts it to the shards of its audience.
func (b *Broker) order(to Audience, e *event, buf []byte) (r Receipt, posted bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return r, false, ErrClosed
	}
	b.seq++
	e.seq = b.seq
	e.frame, r.ID = seal(buf, b.idRoom, b.epoch, e.seq)
	switch to.kind {
	case everyone:
		r.Recipients = b.total
		posted = b.postToAll(e)
	case oneUser:
		if a, ok := b.accounts.Get(&account{id: to.name}); ok {
			r.Recipients = a.connections
			e.left.Store(1)
			b.shardFor(to.name).post(item{kind: deliver, event: e, user: a})
			posted = true
		}
	case nobody:
	}
	return r, posted, nil
}

// postToAll posts e to every shard that holds a stream. The caller has b.mu.
func (b *Broker) postToAll(e *event) (posted bool) {
	for _, n := range b.open {
		if n > 0 {
			e.left.Add(1)
			posted = true
		}
	}
	for i, n := range b.open {
		if n > 0 {
			b.shards[i].post(item{kind: deliver, event: e})
		}
	}
	return posted
}

// taken is called by each shard that has taken e out of its mailbox.
func (b *Broker) taken(e *event) {
	if e.left.Add(-1) == 0 {
		b.backlog.Release(e.cost)
	}
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

// join counts st and posts it to its shard, as one step of the order.
func (b *Broker) join(st *Stream, preamble *event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if st.account != nil {
		if a, ok := b.accounts.Get(st.account); ok {
			st.account = a
		} else {
			st.account.since = time.Now()
			b.accounts.ReplaceOrInsert(st.account)
		}
		st.account.connections++
	}
	b.open[st.shard.number]++
	b.total++
	st.shard.post(item{kind: join, stream: st, event: preamble})
	return nil
}

// leave takes back what join counted.
func (b *Broker) leave(st *Stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[st.shard.number]--
	b.total--
	if a := st.account; a != nil {
		if a.connections--; a.connections == 0 {
			b.accounts.Delete(a)
		}
	}
}

// Closed reports whether the broker is closing or has closed.
func (b *Broker) Closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Close ends all streams, with what their connections take at once of what
// waits for them, and returns when the broker's goroutines are gone. From its
// beginning on Publish and Start answer ErrClosed.
func (b *Broker) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		for _, s := range b.shards {
			s.post(item{kind: shutdown})
		}
	}
	b.mu.Unlock()
	b.running.Wait()
}
