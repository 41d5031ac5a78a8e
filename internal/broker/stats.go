package broker

import (
	"sync/atomic"
	"time"
)

// Stats holds a broker's statistics.
type Stats struct {
	// Total is the sum over all shards; its Shard is 0.
	Total ShardStats
	// Shards has one entry per shard, by number.
	Shards []ShardStats
	// Users counts the users with at least one stream.
	Users int
	// Topics counts the topics and patterns that streams subscribe to.
	Topics int
	// Published counts the accepted messages.
	Published int64
	// ByAudience counts the accepted messages by kind of audience.
	ByAudience ByAudience
	// Reads counts the pages that ReadMessages read, by kind of audience.
	Reads ByAudience
	// Resumes counts the streams that had a last event id.
	Resumes Resumes
	// Since counts the streams that started at a time in the past or at the start
	// of the history, and Rewinds those that asked for their last n events.
	Since, Rewinds Resumes
	// Fresh counts the streams that started at the current end of the history, with
	// retained values.
	Fresh Resumes
	// Polls counts the requests for events in JSON.
	Polls Polls
	// RetainedEvents is the number of retained values, and RetainedBytes the memory
	// that they use, which Retain.MaxBytes limits.
	RetainedEvents, RetainedBytes int
	// LogEvents is the number of events in the history. LogBytes is the memory that
	// the events and the index use, which History.MaxBytes limits.
	LogEvents, LogBytes int
	// LogSince is the time at which the oldest event in the history was
	// published; zero if the history is empty.
	LogSince time.Time
	// StartedAt is the time at which the broker started.
	StartedAt time.Time
}

// ByAudience counts messages, or reads of messages, by kind of audience.
type ByAudience struct {
	// Broadcast counts messages to everyone, User to one user, and Topic to
	// the subscribers of a topic.
	Broadcast, User, Topic int64
}

// byAudience returns the counts of each kind.
func byAudience(counts [audiences]int64) ByAudience {
	return ByAudience{counts[everyone], counts[oneUser], counts[oneTopic]}
}

// ShardStats holds the statistics of one shard.
type ShardStats struct {
	// Shard is the shard's number.
	Shard int
	// Connections counts the open streams, Authenticated those with a user, and
	// Compressed those with the gzip content coding.
	Connections, Authenticated, Compressed int
	// Connected counts the streams opened since the broker started.
	Connected int64
	// Disconnected counts the streams closed since the broker started, by reason.
	Disconnected map[string]int64
	// Delivered counts the events that sinks accepted.
	Delivered int64
	// Dropped counts the events that were queued but not accepted by a sink,
	// by reason.
	Dropped map[string]int64
	// Bytes counts the bytes that sinks accepted.
	Bytes int64
	// QueuedBytes is the number of bytes that are currently in queues.
	QueuedBytes int64
	// WaitingEvents counts the events that the shard hasn't moved to its streams'
	// queues yet. Lag is the age of the oldest of them; in the total, it is the
	// maximum over all shards.
	WaitingEvents int64
	Lag           time.Duration
}

// counters are updated by a shard's goroutine. Any goroutine may read them.
type counters struct {
	connections, authenticated, compressed atomic.Int64
	connected                              atomic.Int64
	delivered, bytes, queuedBytes          atomic.Int64
	disconnected, dropped                  [reasons]atomic.Int64

	// taken counts the events taken out of the mailbox since the broker started. oldest
	// is when the oldest event in mailbox.read was published, in Unix nanoseconds; 0 if
	// there is none.
	taken, oldest atomic.Int64
}

func (s *shard) stats(now int64) ShardStats {
	c := &s.counters

	// Read in the order in which events move, so that none is missed.
	posted, oldest := s.mail.stats()
	if handled := c.oldest.Load(); handled != 0 {
		oldest = handled
	}
	row := ShardStats{
		Shard:         s.number,
		Connections:   int(c.connections.Load()),
		Authenticated: int(c.authenticated.Load()),
		Compressed:    int(c.compressed.Load()),
		Connected:     c.connected.Load(),
		Disconnected:  byReason(&c.disconnected),
		Delivered:     c.delivered.Load(),
		Dropped:       byReason(&c.dropped),
		Bytes:         c.bytes.Load(),
		QueuedBytes:   c.queuedBytes.Load(),
		WaitingEvents: max(posted-c.taken.Load(), 0),
	}
	if oldest != 0 {
		row.Lag = time.Duration(max(now-oldest, 0))
	}
	return row
}

func byReason(counts *[reasons]atomic.Int64) map[string]int64 {
	m := make(map[string]int64)
	for r := range counts {
		if n := counts[r].Load(); n != 0 {
			m[Reason(r).String()] = n
		}
	}
	return m
}

func (t *ShardStats) add(o ShardStats) {
	t.Connections += o.Connections
	t.Authenticated += o.Authenticated
	t.Compressed += o.Compressed
	t.Connected += o.Connected
	t.Delivered += o.Delivered
	t.Bytes += o.Bytes
	t.QueuedBytes += o.QueuedBytes
	t.WaitingEvents += o.WaitingEvents
	t.Lag = max(t.Lag, o.Lag)
	for r, n := range o.Disconnected {
		t.Disconnected[r] += n
	}
	for r, n := range o.Dropped {
		t.Dropped[r] += n
	}
}

// Stats returns the current statistics. Streams that have joined but haven't been
// opened by their shard yet aren't counted.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	st := Stats{Users: b.accounts.Len(), Topics: b.topics.byName.Len(), StartedAt: b.started,
		LogEvents: b.history.all.events, LogBytes: b.history.bytes,
		Resumes: b.resumes.clone(), Since: b.since.clone(), Rewinds: b.rewinds.clone(), Fresh: b.fresh.clone()}
	st.RetainedEvents, st.RetainedBytes = b.retained.size(b.logNow())
	if e := b.history.all.first(); e != nil {
		st.LogSince = time.Unix(0, e.at)
	}
	st.ByAudience, st.Reads = byAudience(b.published), byAudience(b.reads)
	b.mu.Unlock()

	st.Polls = b.Polls()
	st.Published = st.ByAudience.Broadcast + st.ByAudience.User + st.ByAudience.Topic

	now := time.Now().UnixNano()
	st.Total.Disconnected = make(map[string]int64)
	st.Total.Dropped = make(map[string]int64)
	for _, s := range b.shards {
		row := s.stats(now)
		st.Shards = append(st.Shards, row)
		st.Total.add(row)
	}
	return st
}

// Latency returns the distribution of the time from the publication of an event
// until a sink accepted it, in seconds, with one observation per event and
// stream. It excludes replayed events and heartbeats.
func (b *Broker) Latency() Histogram {
	var sum Histogram
	for _, s := range b.shards {
		s.delays.latency.addTo(&sum, float64(time.Second))
	}
	return sum
}

// Replays returns the distribution of the number of events replayed, with one
// observation for each stream that resumed, whether or not it caught up.
func (b *Broker) Replays() Histogram {
	var sum Histogram
	b.replays.addTo(&sum, 1)
	return sum
}

// User is a user who has at least one stream.
type User struct {
	ID string
	// Connections counts the user's streams.
	Connections int
	// Since is the start of the user's current period with at least one stream.
	Since time.Time
}

// Users returns up to limit users whose ids start with prefix and are greater
// than after, in ascending order of id (by byte).
func (b *Broker) Users(prefix, after string, limit int) []User {
	b.mu.Lock()
	defer b.mu.Unlock()
	return page(b.accounts, &account{id: max(prefix, after)}, prefix, after, limit,
		func(a *account) (string, User) { return a.id, User{a.id, int(a.connections), time.Unix(0, a.since)} })
}
