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
	// Published counts the messages accepted.
	Published int64
	// Resumes counts the streams that came with a last event id.
	Resumes Resumes
	// LogEvents and LogBytes are what the log holds: events, and the memory of
	// events and index that History.MaxBytes bounds.
	LogEvents, LogBytes int
	// StartedAt is when the broker started.
	StartedAt time.Time
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
}

// figures are counted by a shard's goroutine and read by anyone.
type figures struct {
	connections, authenticated, connected atomic.Int64
	delivered, bytes, queuedBytes         atomic.Int64
	disconnected, dropped                 [reasons]atomic.Int64
}

func (f *figures) stats(number int) ShardStats {
	return ShardStats{
		Shard:         number,
		Connections:   int(f.connections.Load()),
		Authenticated: int(f.authenticated.Load()),
		Connected:     f.connected.Load(),
		Disconnected:  byReason(&f.disconnected),
		Delivered:     f.delivered.Load(),
		Dropped:       byReason(&f.dropped),
		Bytes:         f.bytes.Load(),
		QueuedBytes:   f.queuedBytes.Load(),
	}
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
	st := Stats{Users: b.accounts.Len(), Published: int64(b.seq), StartedAt: b.started,
		LogEvents: b.history.all.len(), LogBytes: b.history.bytes,
		Resumes: Resumes{b.resumes.Replayed, maps.Clone(b.resumes.Resets)}}
	b.mu.Unlock()
	st.Total.Disconnected = make(map[string]int64)
	st.Total.Dropped = make(map[string]int64)
	for _, s := range b.shards {
		row := s.figures.stats(s.number)
		st.Shards = append(st.Shards, row)
		st.Total.add(row)
	}
	return st
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
