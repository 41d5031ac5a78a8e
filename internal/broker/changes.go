package broker

import (
	"slices"
	"time"
)

// Changes are the users and topics whose streams were counted anew. They are
// gathered from when they are asked for until they are taken.
type Changes struct {
	broker *Broker

	// What follows is guarded by Broker.mu. Names may stand there more than
	// once: to look would cost more than to note.

	users, topics []string
	bars          []string
	lost          bool // there were more than maxChanges
}

// Ban is a user who is to stay away.
type Ban struct {
	User string
	// Set is when the user was told so, and Until how long it holds.
	Set, Until time.Time
}

// Tally is what a broker holds: all streams, those of them that belong to
// nobody, and the users whom the others belong to.
type Tally struct{ Streams, Anonymous, Users int }

const (
	// maxChanges bounds the names that wait to be taken.
	maxChanges = 1 << 20
	// countTurn bounds how many names are counted in one go, since publishers
	// wait for it.
	countTurn = 256
)

// Changes begins to gather changes. A broker has one such gathering at a time,
// which lasts as long as the broker.
func (b *Broker) Changes() *Changes {
	c := &Changes{broker: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = c
	return c
}

// note notes whose counts a stream's coming or going has changed. The caller
// has Broker.mu.
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

// Take returns the users and topics that have changed since the last time, each
// once, and as they are now: those of whom there are none any more have a count
// of 0. Complete is false where others have changed besides.
func (c *Changes) Take() (users []User, topics []Topic, bars []Ban, complete bool) {
	b := c.broker
	b.mu.Lock()
	changedUsers, changedTopics, changedBars := c.users, c.topics, c.bars
	complete = !c.lost
	c.users, c.topics, c.bars, c.lost = nil, nil, nil, false
	b.mu.Unlock()

	for turn := range slices.Chunk(once(changedUsers), countTurn) {
		b.mu.Lock()
		for _, id := range turn {
			u := User{ID: id}
			if a, ok := b.accounts.Get(&account{id: id}); ok {
				u.Connections, u.Since = a.connections, a.since
			}
			users = append(users, u)
		}
		b.mu.Unlock()
	}
	for turn := range slices.Chunk(once(changedTopics), countTurn) {
		b.mu.Lock()
		for _, name := range turn {
			t := Topic{Name: name}
			if entry, ok := b.topics.byName.Get(&topic{name: name}); ok {
				t.Subscribers = entry.subscribers
			}
			topics = append(topics, t)
		}
		b.mu.Unlock()
	}
	for turn := range slices.Chunk(once(changedBars), countTurn) {
		b.mu.Lock()
		for _, user := range turn {
			if bar, ok := b.barred.Get(Ban{User: user}); ok {
				bars = append(bars, bar)
			}
		}
		b.mu.Unlock()
	}
	return users, topics, bars, complete
}

func once(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// Tally counts the streams that have joined and not left.
func (b *Broker) Tally() Tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Tally{b.total, b.anonymous, b.accounts.Len()}
}

// Bans returns up to limit users who are to stay away, of ids greater than
// after, in ascending order of id (by byte).
func (b *Broker) Bans(after string, limit int) []Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	return page(b.barred, Ban{User: after}, "", after, limit, func(bar Ban) (string, Ban) { return bar.User, bar })
}

// AdoptBan takes over a ban that another daemon has set, unless the one that the
// user has is as new. The user's streams here are ended.
func (b *Broker) AdoptBan(bar Ban) error {
	if err := ValidUserID(bar.User); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if has, ok := b.barred.Get(Ban{User: bar.User}); ok && !bar.Set.After(has.Set) {
		return nil
	}
	b.barred.ReplaceOrInsert(bar)
	b.disconnect(bar.User)
	return nil
}

// disconnect ends all streams of a user. The caller has b.mu.
func (b *Broker) disconnect(user string) int {
	a, ok := b.accounts.Get(&account{id: user})
	if !ok {
		return 0
	}
	b.shardFor(user).post(item{kind: disconnect, group: &a.group})
	return a.connections
}

// forgive forgets the bars that are over. The caller has b.mu.
func (b *Broker) forgive(now time.Time) {
	var over []Ban
	b.barred.Ascend(func(bar Ban) bool {
		if !now.Before(bar.Until) {
			over = append(over, bar)
		}
		return true
	})
	for _, bar := range over {
		b.barred.Delete(bar)
	}
}

// IsPattern says whether a topic is a pattern.
func (t Topic) IsPattern() bool { return isPattern(t.Name) }
