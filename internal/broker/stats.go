package broker

import (
	"maps"
	"sync/atomic"
	"time"
)

// Stats are a broker's figures.
type Stats struct {
	// Total is the sum of all shards; its Shard is 0.
	Total ShardStats
	// Shards has a row a shard, by number.
	Shards []ShardStats
	// Users counts the users who hold a stream.
	Users int
	// Topics counts the topics and patterns that streams subscribe to.
	Topics int
	// Published counts the messages accepted.
	Published int64
	// ByAudience are the messages accepted by the kind of their audience.
	ByAudience ByAudience
	// Resumes counts the streams that came with a last event id.
	Resumes Resumes
	// LogEvents and LogBytes are what the log holds: events, and the memory of
	// events and index that History.MaxBytes bounds.
	LogEvents, LogBytes int
	// LogSince is when the oldest event in the log was published; zero where
	// there is none.
	LogSince time.Time
	// StartedAt is when the broker started.
	StartedAt time.Time
}

// ByAudience counts messages by whom they are for.
type ByAudience struct {
	// Broadcast counts those to everyone, User those to one user, and Topic
	// those to the subscribers of a topic.
	Broadcast, User, Topic int64
}

// ShardStats are the figures of one shard.
type ShardStats struct {
	// Shard is the shard's number.
	Shard int
	// Connections and Authenticated count open streams, and those of users.
	Connections, Authenticated int
	// Connected counts the streams opened since the start.
	Connected int64
	// Disconnected counts the streams ended since the start, by reason.
	Disconnected map[string]int64
	// Delivered counts the events handed to sinks.
	Delivered int64
	// Dropped counts the events that were queued and not handed to their
	// sink, by reason.
	Dropped map[string]int64
	// Bytes counts the bytes handed to sinks.
	Bytes int64
	// QueuedBytes are the bytes that wait for sinks now.
	QueuedBytes int64
	// WaitingEvents counts the events that the shard has yet to put into its
	// streams' queues, and Lag is how long ago the oldest of them was
	// published; in the total, that of all shards.
	WaitingEvents int64
	Lag           time.Duration
}

// figures are counted by a shard's goroutine and read by anyone.
type figures struct {
	connections, authenticated, connected atomic.Int64
	delivered, bytes, queuedBytes         atomic.Int64
	disconnected, dropped                 [reasons]atomic.Int64

	// taken counts the events out of the mailbox since the start, and oldest is
	// when the oldest was published that is in the shard's half of it.
	taken, oldest atomic.Int64
}

func (s *shard) stats(now int64) ShardStats {
	f := &s.figures
	// In the order in which events go, so that none is missed.
	posted, oldest := s.mail.waiting()
	if handled := f.oldest.Load(); handled != 0 {
		oldest = handled
	}
	row := ShardStats{
		Shard:         s.number,
		Connections:   int(f.connections.Load()),
		Authenticated: int(f.authenticated.Load()),
		Connected:     f.connected.Load(),
		Disconnected:  byReason(&f.disconnected),
		Delivered:     f.delivered.Load(),
		Dropped:       byReason(&f.dropped),
		Bytes:         f.bytes.Load(),
		QueuedBytes:   f.queuedBytes.Load(),
		WaitingEvents: max(posted-f.taken.Load(), 0),
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

// Stats returns the broker's figures as of now. Streams that have joined and
// that their shard has not yet seen are not among them.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	st := Stats{Users: b.accounts.Len(), Topics: b.topics.byName.Len(), StartedAt: b.started,
		LogEvents: b.history.all.len(), LogBytes: b.history.bytes,
		Resumes: Resumes{b.resumes.Replayed, b.resumes.Ended, maps.Clone(b.resumes.Resets)}}
	if st.LogEvents > 0 {
		st.LogSince = time.Unix(0, b.history.all.at(0).at)
	}
	published := b.published
	b.mu.Unlock()
	st.ByAudience = ByAudience{published[everyone], published[oneUser], published[oneTopic]}
	st.Published = published[everyone] + published[oneUser] + published[oneTopic]
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

// Latency returns how long events took, in seconds, from their publication
// until they were handed to sinks, once for each stream that got one live. What
// came out of the log is no part of it, nor are heartbeats.
func (b *Broker) Latency() Histogram {
	var sum Histogram
	for _, s := range b.shards {
		s.delays.spent.addTo(&sum, float64(time.Second))
	}
	return sum
}

// Replays returns how many events came out of the log for each stream that
// resumed, whether it then got all or not.
func (b *Broker) Replays() Histogram {
	var sum Histogram
	b.replays.addTo(&sum, 1)
	return sum
}

// User is somebody who holds at least one stream.
type User struct {
	ID string
	// Connections counts the user's streams.
	Connections int
	// Since is when the user came to hold a stream, without a break since.
	Since time.Time
}

// Users returns up to limit users whose ids begin with prefix and are greater
// than after, in ascending order of id (by byte).
func (b *Broker) Users(prefix, after string, limit int) []User {
	b.mu.Lock()
	defer b.mu.Unlock()
	return page(b.accounts, &account{id: max(prefix, after)}, prefix, after, limit,
		func(a *account) (string, User) { return a.id, User{a.id, a.connections, a.since} })
}
