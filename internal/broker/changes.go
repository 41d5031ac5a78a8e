package broker

import (
	"slices"
	"time"
)

// Changes collects the users and topics whose stream counts have changed, and
// the users who have been banned. It collects from the time it is created until
// Stop is called or the broker closes.
type Changes struct {
	broker *Broker

	// The fields below are guarded by Broker.mu. A name may be listed more
	// than once: checking for duplicates would cost more than appending.

	users, topics []string
	bans          []string
	lost          bool // there were more than maxChanges
}

// Tally counts the open streams, the anonymous ones among them, and the users to
// whom the others belong.
type Tally struct{ Streams, Anonymous, Users int }

const (
	// maxChanges limits the number of names that are waiting to be taken.
	maxChanges = 1 << 20
	// countBatch limits how many names are counted each time the lock is held, since
	// publishers wait for it.
	countBatch = 256
)

// Changes starts collecting changes. A broker has at most one Changes at a time.
func (b *Broker) Changes() *Changes {
	c := &Changes{broker: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = c
	return c
}

// note records the names whose counts a stream has changed by joining or
// leaving. c may be nil. The caller holds Broker.mu.
func (c *Changes) note(st *Stream) {
	if c == nil {
		return
	}
	if len(c.users)+len(c.topics) > maxChanges {
		c.users, c.topics, c.lost = nil, nil, true
	}
	if st.account != nil {
		c.users = append(c.users, st.account.id)
	}
	if st.topics != nil {
		c.topics = append(c.topics, st.topics.names...)
	}
}

// Take returns the users, topics and bans that have changed since the last call,
// each once and in its current state. A user or topic without streams has a count
// of 0. complete is false if further changes were lost.
func (c *Changes) Take() (users []User, topics []Topic, bans []Ban, complete bool) {
	b := c.broker
	b.mu.Lock()
	changedUsers, changedTopics, changedBans := c.users, c.topics, c.bans
	complete = !c.lost
	c.users, c.topics, c.bans, c.lost = nil, nil, nil, false
	b.mu.Unlock()

	users = b.CountUsers(unique(changedUsers))
	topics = b.CountTopics(unique(changedTopics))

	for batch := range slices.Chunk(unique(changedBans), countBatch) {
		b.mu.Lock()
		for _, user := range batch {
			if ban, ok := b.bans.Get(Ban{User: user}); ok {
				bans = append(bans, ban)
			}
		}
		b.mu.Unlock()
	}
	return users, topics, bans, complete
}

// Stop stops collecting changes. Changes that haven't been taken are lost.
func (c *Changes) Stop() {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes == c {
		b.changes = nil
	}
	c.users, c.topics, c.bans = nil, nil, nil
}

// CountUsers returns the users with the given ids and the number of their streams,
// which is 0 for a user without any.
func (b *Broker) CountUsers(ids []string) []User {
	users := make([]User, 0, len(ids))
	for batch := range slices.Chunk(ids, countBatch) {
		b.mu.Lock()
		for _, id := range batch {
			u := User{ID: id}
			if a, ok := b.accounts.Get(&account{id: id}); ok {
				u.Connections, u.Since = int(a.connections), time.Unix(0, a.since)
			}
			users = append(users, u)
		}
		b.mu.Unlock()
	}
	return users
}

// CountTopics returns the topics and patterns with the given names and the number of
// streams that subscribe to them, which is 0 for a topic without any.
func (b *Broker) CountTopics(names []string) []Topic {
	topics := make([]Topic, 0, len(names))
	for batch := range slices.Chunk(names, countBatch) {
		b.mu.Lock()
		for _, name := range batch {
			t := Topic{Name: name}
			if entry, ok := b.topics.find(name); ok {
				t.Subscribers = int(entry.subscribers)
			}
			topics = append(topics, t)
		}
		b.mu.Unlock()
	}
	return topics
}

// Names returns the sorted names of all users and topics with streams. Streams that
// are opened or closed in the meantime may be missing or included.
func (b *Broker) Names() (users, topics []string) {
	for after := ""; ; {
		page := b.Users("", after, countBatch)
		for _, u := range page {
			users = append(users, u.ID)
		}
		if len(page) < countBatch {
			break
		}
		after = page[len(page)-1].ID
	}

	for after := ""; ; {
		page := b.Topics("", after, countBatch)
		for _, t := range page {
			topics = append(topics, t.Name)
		}
		if len(page) < countBatch {
			break
		}
		after = page[len(page)-1].Name
	}
	return users, topics
}

// unique sorts names and removes duplicates.
func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// Tally counts the streams that have joined and haven't left.
func (b *Broker) Tally() Tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Tally{b.total, b.anonymous, b.accounts.Len()}
}
