package presence

import (
	"maps"
	"slices"
	"sync"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
	"github.com/peald/peald/internal/broker"
)

// maxFollowed limits the number of names that are waiting to be taken.
const maxFollowed = 1 << 20

// Follower collects the users and topics whose streams have changed on any node, until
// Close is called. It doesn't notice streams that are open for less than the time
// between announcements.
type Follower struct {
	directory *Directory

	// A name may be listed more than once: checking for duplicates would cost
	// more than appending.

	mu            sync.Mutex
	users, topics []string
	lost          bool // there were more than maxFollowed
}

// Follow starts following changes. A directory has at most one Follower at a time.
func (d *Directory) Follow() *Follower {
	f := &Follower{directory: d}
	d.follower.Store(f)
	return f
}

// Close stops following changes.
func (f *Follower) Close() { f.directory.follower.CompareAndSwap(f, nil) }

// noteOwn notes changes on this node.
func (d *Directory) noteOwn(users []broker.User, topics []broker.Topic, complete bool) {
	f := d.follower.Load()
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = f.lost || !complete
	for _, u := range users {
		f.users = append(f.users, u.ID)
	}
	for _, t := range topics {
		f.topics = append(f.topics, t.Name)
	}
	f.limit()
}

// noteAnnounced notes counts that another node has announced. f may be nil.
func (f *Follower) noteAnnounced(changed *presencev1.Counts) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range changed.GetUsers() {
		f.users = append(f.users, u.GetName())
	}
	for _, t := range changed.GetTopics() {
		f.topics = append(f.topics, t.GetName())
	}
	f.limit()
}

// noteAll notes all names in another node's counts, which become known or unknown. f
// and c may be nil.
func (f *Follower) noteAll(c *counts) {
	if f == nil || c == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users = slices.AppendSeq(f.users, maps.Keys(c.users))
	f.topics = slices.AppendSeq(f.topics, maps.Keys(c.topics))
	f.limit()
}

// limit drops the names if there are too many. The caller holds f.mu.
func (f *Follower) limit() {
	if f.lost || len(f.users)+len(f.topics) > maxFollowed {
		f.users, f.topics, f.lost = nil, nil, true
	}
}

// Take returns the users and topics whose streams have changed since the last call,
// each once and with the current number of its streams on all nodes. It leaves out when
// users connected. complete is false if further changes were lost.
func (f *Follower) Take() (users []broker.User, topics []broker.Topic, complete bool) {
	f.mu.Lock()
	changedUsers, changedTopics, lost := f.users, f.topics, f.lost
	f.users, f.topics, f.lost = nil, nil, false
	f.mu.Unlock()

	d := f.directory
	users, topics = d.cfg.Broker.CountUsers(sorted(changedUsers)), d.cfg.Broker.CountTopics(sorted(changedTopics))
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range d.nodes {
		if n.counts == nil {
			continue
		}
		for i := range users {
			users[i].Connections += int(n.counts.users[users[i].ID])
		}
		for i := range topics {
			topics[i].Subscribers += int(n.counts.topics[topics[i].Name])
		}
	}
	return users, topics, !lost
}

// All returns the sorted names of all users and topics with streams on any node.
func (f *Follower) All() (users, topics []string) {
	d := f.directory
	users, topics = d.cfg.Broker.Names()
	d.mu.RLock()
	for _, n := range d.nodes {
		if n.counts != nil {
			users = slices.AppendSeq(users, maps.Keys(n.counts.users))
			topics = slices.AppendSeq(topics, maps.Keys(n.counts.topics))
		}
	}
	d.mu.RUnlock()
	return sorted(users), sorted(topics)
}

// Settled reports whether the counts of all reachable nodes are known.
func (f *Follower) Settled() bool {
	d := f.directory
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range d.nodes {
		if !n.lost && n.counts == nil {
			return false
		}
	}
	return true
}
