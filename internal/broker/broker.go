package broker

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
	"golang.org/x/sync/semaphore"
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
	// Conflate keeps, of the events that wait and have a conflate key, the
	// newest of each key. A stream whose queue is full all the same is ended.
	Conflate SlowPolicy = "conflate"
)

// Config is how a broker is set up. Every field is required.
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
	// History bounds the log.
	History History
	// IdempotencyWindow is how long idempotency keys are remembered.
	IdempotencyWindow time.Duration
	// Replica says that the order is made elsewhere: the broker follows a log
	// by Begin and Apply, and gives out no ids itself. Until the log begins
	// it is suspended.
	Replica bool
}

// Broker takes messages and queues them to the streams of their audience. Its
// methods may be called concurrently.
type Broker struct {
	cfg      atomic.Pointer[Config] // stored under mu
	log      atomic.Pointer[logName]
	replica  bool
	started  time.Time
	shards   []*shard
	hashSeed maphash.Seed
	turn     atomic.Uint32 // the shard whose turn it is to take an anonymous stream
	running  sync.WaitGroup
	stop     chan struct{} // closed when the broker closes

	// backlog bounds the bytes of events that shards have not yet taken into
	// their queues, so that publishers can't run ahead of them.
	backlog *semaphore.Weighted

	mu        sync.Mutex
	closed    bool
	suspended bool             // no stream may join
	leaving   *drain           // of the streams that a suspension ends; nil for none
	begun     int              // logs that have begun
	seq       uint64           // the last sequence that was given
	ahead     []*arrival       // clients that wait for a replica to catch up
	end       logEnd           // how far a replica's log is known to go
	published [audiences]int64 // messages accepted
	accounts  *btree.BTreeG[*account]
	topics    topics
	history   history
	replies   replies
	clock     logClock           // of a replica's log
	barred    *btree.BTreeG[Ban] // users who are to stay away
	watches   map[*Watch]struct{}
	taps      map[*Tap]struct{}
	changes   *Changes   // nil where nobody asks
	mail      []delivery // scratch of fanOut
	open      []int      // streams by shard
	total     int        // streams in all
	anonymous int        // streams that belong to nobody
	resumes   Resumes
	replays   histogram
}

// account is a user who holds at least one stream. It is guarded by Broker.mu.
type account struct {
	id          string
	connections int
	since       time.Time
	group       group // the shard's
}

// maxBacklog is the bytes of events that may wait for their shards.
const maxBacklog = 64 << 20

// New starts a broker. Its Close must be called.
func New(cfg Config) *Broker {
	now := time.Now()
	b := &Broker{
		replica:  cfg.Replica,
		started:  now,
		replays:  newHistogram(replayBounds()),
		hashSeed: maphash.MakeSeed(),
		backlog:  semaphore.NewWeighted(maxBacklog),
		accounts: btree.NewG(32, func(a, b *account) bool { return a.id < b.id }),
		topics:   newTopics(),
		history:  newHistory(cfg.History),
		replies:  newReplies(cfg.IdempotencyWindow),
		barred:   btree.NewG(32, func(a, b Ban) bool { return a.User < b.User }),
		watches:  make(map[*Watch]struct{}),
		taps:     make(map[*Tap]struct{}),
		open:     make([]int, cfg.Shards),
		resumes:  Resumes{Resets: make(map[string]int64)},
		stop:     make(chan struct{}),
	}
	b.cfg.Store(&cfg)
	b.log.Store(newLogName(NewEpoch()))
	b.suspended = cfg.Replica
	bounds := latencyBounds()
	for i := range cfg.Shards {
		b.shards = append(b.shards, newShard(b, i, bounds))
	}
	b.running.Go(b.keepBounds)
	for _, s := range b.shards {
		b.running.Go(s.run)
	}
	return b
}

// id is the id of a position on the wire, "<epoch>-<sequence>".
func (b *Broker) id(seq uint64) string { return string(appendID(nil, b.log.Load().epoch, seq)) }

// steady returns nanoseconds since the broker started. Unlike the time of day, it
// never goes back and never leaps: what is measured and waited for uses it.
func (b *Broker) steady() int64 { return int64(time.Since(b.started)) + 1 }

// head returns the sequence of the last event.
func (b *Broker) head() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seq
}

// keepBounds lets go what has grown too old, also when nothing is published.
func (b *Broker) keepBounds() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case now := <-tick.C:
			b.mu.Lock()
			b.history.evict(b.logNow())
			if !b.replica { // whose clock is the log's
				b.replies.forget(now.UnixNano())
			}
			b.forgive(now)
			b.mu.Unlock()
		}
	}
}

// Publish validates m, gives it the next id and queues it to its audience's
// streams. It returns an *InvalidError for a message that can't be an event,
// ErrKeyUsed for one whose idempotency key is another's, ErrClosed once the
// broker is closing, and ctx's error if ctx ends while it waits for shards
// that have fallen behind.
func (b *Broker) Publish(ctx context.Context, m Message) (Receipt, error) {
	if err := m.Validate(); err != nil {
		return Receipt{}, err
	}
	log := b.log.Load()
	buf := encodeFields(&m, log.room)
	e := &event{audience: m.Audience, conflate: m.ConflateKey, cost: int64(min(len(buf), maxBacklog))}
	if err := b.backlog.Acquire(ctx, e.cost); err != nil {
		return Receipt{}, fmt.Errorf("waiting for shards to catch up: %w", err)
	}
	receipt, posted, err := b.order(&m, e, log, buf, false, Verdict{})
	if !posted {
		b.backlog.Release(e.cost)
	}
	return receipt, err
}

// order gives e its place, unless it has one, appends it to the log and posts
// it to the shards of its audience. One that is foreign was accepted elsewhere.
func (b *Broker) order(m *Message, e *event, log *logName, buf []byte, foreign bool, v Verdict) (r Receipt, posted bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return r, false, ErrClosed
	}
	if e.seq == 0 {
		e.seq, e.at = b.seq+1, time.Now().UnixNano()
	}
	if m.TTL > 0 {
		e.ends = e.at + int64(m.TTL)
	}
	if earlier, event, err := b.replies.find(m, e.at, v); event > 0 || err != nil {
		if earlier.ID == "" && err == nil {
			earlier.ID = b.id(event) // which this replica has never seen
		}
		return earlier, false, err
	}
	b.seq = e.seq
	if !foreign {
		b.published[e.audience.kind]++
	}
	e.frame, r.ID = seal(buf, log.room, log.epoch, e.seq)
	b.history.append(e)
	r.Recipients, posted = b.fanOut(e)
	b.replies.remember(m, e.seq, r, e.at)
	if len(b.ahead) > 0 {
		b.letArrive()
	}
	return r, posted, nil
}

// fanOut posts e to the shards that hold streams of its audience, and returns
// how many streams these are. The caller has b.mu.
func (b *Broker) fanOut(e *event) (recipients int, posted bool) {
	mail := b.mail[:0]
	switch e.audience.kind {
	case everyone:
		recipients = b.total
		for i, n := range b.open {
			if n > 0 {
				mail = append(mail, delivery{b.shards[i], nil})
			}
		}
	case oneUser:
		if a, ok := b.accounts.Get(&account{id: e.audience.name}); ok {
			recipients = a.connections
			mail = append(mail, delivery{b.shardFor(a.id), &a.group})
		}
	case oneTopic:
		recipients, mail = b.topics.subscribers(e, b.shards, mail)
	case nobody:
	}
	e.left.Store(int32(len(mail)))
	for _, d := range mail {
		d.shard.post(item{kind: deliver, event: e, group: d.group})
	}
	clear(mail)
	b.mail = mail
	e.recipients = int32(min(recipients, math.MaxInt32))
	if len(b.taps) > 0 {
		b.tapped(e)
	}
	return recipients, len(mail) > 0
}

// delivery is where an event is to go: to a group of a shard's streams, or to
// all of them where group is nil.
type delivery struct {
	shard *shard
	group *group
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

// join counts st, finds the position that it starts from and posts it to its
// shard, as one step of the order.
func (b *Broker) join(st *Stream, preamble *event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if b.suspended {
		return ErrSuspended
	}
	if st.account == nil {
		b.anonymous++
	} else {
		if a, ok := b.accounts.Get(st.account); ok {
			st.account = a
		} else {
			st.account.since = time.Now()
			b.accounts.ReplaceOrInsert(st.account)
		}
		st.account.connections++
	}
	if st.topics != nil {
		b.topics.join(st, len(b.shards))
	}
	b.open[st.shard.number]++
	b.total++
	b.resume(st)
	b.tell(st, true, 0)
	st.shard.post(item{kind: join, stream: st, event: preamble})
	return nil
}

// leave takes back what join counted.
func (b *Broker) leave(st *Stream, why Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uncount(st, why)
}

// uncount is leave for whoever has b.mu.
func (b *Broker) uncount(st *Stream, why Reason) {
	b.open[st.shard.number]--
	b.total--
	if a := st.account; a == nil {
		b.anonymous--
	} else if a.connections--; a.connections == 0 {
		b.accounts.Delete(a)
	}
	if st.topics != nil {
		b.topics.leave(st)
	}
	if st.behind {
		b.resumes.Ended++
		b.replays.observe(int64(st.replayed), 1)
	}
	b.tell(st, false, why)
}

// Disconnect ends all streams of a user, and returns how many. For as long as
// stayAway the user is banned; 0 is no time at all.
func (b *Broker) Disconnect(user string, stayAway time.Duration) (int, error) {
	if err := ValidUserID(user); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, ErrClosed
	}
	if stayAway > 0 {
		now := time.Now()
		b.barred.ReplaceOrInsert(Ban{user, now, now.Add(stayAway)})
		if b.changes != nil {
			b.changes.bars = append(b.changes.bars, user)
		}
	}
	return b.disconnect(user), nil
}

// Banned reports whether a user is banned.
func (b *Broker) Banned(user string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	bar, ok := b.barred.Get(Ban{User: user})
	return ok && time.Now().Before(bar.Until)
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
