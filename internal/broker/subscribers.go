package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/btree"
)

// SubscriberList selects the users whose streams subscribe to a topic.
type SubscriberList struct {
	// Topic is the topic that the streams subscribe to, by name or by pattern. It may be
	// a pattern itself. In that case, the streams are those that subscribe to every topic
	// that it matches: to the same pattern, or to one that covers it.
	Topic string
	// Prefix is the prefix of the users' ids.
	Prefix string
	// After is the id that precedes the page; empty for the first page.
	After string
	// Limit is the maximum number of users, at least 1.
	Limit int
}

// Subscribers holds subscribers of a topic.
type Subscribers struct {
	// Users holds users in ascending order of id (by byte). Connections counts only the
	// streams that subscribe to the topic.
	Users []User
	// Anonymous is the number of all anonymous streams that subscribe to the topic.
	Anonymous int
}

// Subscribers returns up to q.Limit users with streams that subscribe to a topic, whose
// ids start with q.Prefix and are greater than q.After. It returns an *InvalidError for
// an invalid topic, ErrClosed once the broker is closing, and ctx's error if ctx ends
// while it waits for the shards.
func (b *Broker) Subscribers(ctx context.Context, q SubscriberList) (page Subscribers, err error) {
	found, err := b.findSubscribers(ctx, q.Topic, nil)
	if err != nil {
		return page, err
	}

	first := newFirstUsers(q.Limit)
	for st := range found.each {
		switch a := st.account; {
		case a == nil:
			page.Anonymous++
		case a.id > q.After && strings.HasPrefix(a.id, q.Prefix):
			first.count(a)
		}
	}
	page.Users = first.users()
	return page, nil
}

func compareUsers(a, b User) int { return cmp.Compare(a.ID, b.ID) }

// firstUsers counts the streams of the first users, in order of id.
type firstUsers struct {
	byID  *btree.BTreeG[*User]
	limit int
	pivot User // scratch space of count
}

func newFirstUsers(limit int) *firstUsers {
	return &firstUsers{byID: btree.NewG(32, func(a, b *User) bool { return a.ID < b.ID }), limit: limit}
}

// count counts one of a user's streams. Once a user isn't among the first, none of the
// user's streams count, so it doesn't matter that earlier ones are forgotten.
func (f *firstUsers) count(a *account) {
	if f.byID.Len() == f.limit {
		if last, _ := f.byID.Max(); a.id > last.ID {
			return
		}
	}
	f.pivot.ID = a.id
	if u, ok := f.byID.Get(&f.pivot); ok {
		u.Connections++
		return
	}
	f.byID.ReplaceOrInsert(&User{a.id, 1, time.Unix(0, a.since)})
	if f.byID.Len() > f.limit {
		f.byID.DeleteMax()
	}
}

func (f *firstUsers) users() []User {
	users := make([]User, 0, f.byID.Len())
	f.byID.Ascend(func(u *User) bool {
		users = append(users, *u)
		return true
	})
	return users
}

// foundSubscribers holds the streams that subscribe to a topic.
type foundSubscribers struct {
	topic      string
	byName     [][]*Stream // in the topic's groups, by shard
	byPatterns [][]*Stream // in the tree of patterns, once for each name that matches, in pieces
}

// maxPiece is the largest number of streams in a piece of foundSubscribers.byPatterns.
// Growing one slice under the lock would take several times as long.
const maxPiece = 4096

// addByPattern adds a stream from the tree of patterns.
func (f *foundSubscribers) addByPattern(st *Stream) {
	last := len(f.byPatterns) - 1
	if last < 0 || len(f.byPatterns[last]) == cap(f.byPatterns[last]) {
		size := 16
		if last >= 0 {
			size = min(2*len(f.byPatterns[last]), maxPiece)
		}
		f.byPatterns = append(f.byPatterns, make([]*Stream, 0, size))
		last++
	}
	f.byPatterns[last] = append(f.byPatterns[last], st)
}

// findSubscribers returns the streams that subscribe to a topic.
//
// Streams with patterns are found under the lock, which is held for less time than an
// event for the topic holds it. The other streams are in groups that belong to their
// shards. Each shard lists its own between two items of its mailbox, so the lock isn't
// held in the meantime. That is consistent with a watch: streams that join after the
// lock was held are posted to the shards later, and w ignores the streams that a shard
// closes before it has listed the others. w is nil if there is no watch.
func (b *Broker) findSubscribers(ctx context.Context, topic string, w *Watch) (*foundSubscribers, error) {
	if err := ValidPattern(topic); err != nil {
		return nil, err
	}
	found := &foundSubscribers{topic: topic}
	lists := make(chan []*Stream, len(b.shards))
	awaited, err := b.startFinding(found, lists, w)
	if err != nil {
		return nil, err
	}

	for range awaited {
		select {
		case streams := <-lists:
			found.byName = append(found.byName, streams)
		case <-b.stop:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for shards to list subscribers: %w", ctx.Err())
		}
	}
	return found, nil
}

// startFinding finds the streams with patterns and makes the shards list the others. It
// returns the number of lists that follow.
func (b *Broker) startFinding(found *foundSubscribers, lists chan<- []*Stream, w *Watch) (awaited int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, ErrClosed
	}
	if w != nil {
		b.addTopicWatch(w)
	}

	b.topics.patterns.Match(found.topic, found.addByPattern)
	entry, ok := b.topics.byName.Get(&topic{name: found.topic})
	if !ok {
		return 0, nil
	}
	for i := range entry.groups {
		g := &entry.groups[i]
		if g.joined == 0 {
			continue
		}
		awaited++
		if w != nil {
			w.listed[i] = false
		}
		b.shards[i].post(item{kind: task, task: func(s *shard) {
			streams := g.counted()
			if w != nil {
				b.mu.Lock()
				w.listed[s.number] = true
				b.mu.Unlock()
			}
			lists <- streams
		}})
	}
	return awaited, nil
}

// addTopicWatch adds a watch of a topic. The caller holds b.mu.
func (b *Broker) addTopicWatch(w *Watch) {
	w.listed = slices.Repeat([]bool{true}, len(b.shards))
	if b.watches.byTopic[w.topic] == nil {
		b.watches.byTopic[w.topic] = make(map[*Watch]struct{})
	}
	b.watches.byTopic[w.topic][w] = struct{}{}
}

// counted returns the members that the broker counts.
func (g *group) counted() []*Stream {
	streams := make([]*Stream, 0, len(g.members)-g.closed)
	g.each(func(st *Stream) {
		if st.phase.counted() {
			streams = append(streams, st)
		}
	})
	return streams
}

// each calls f for each stream once, until f returns false.
func (f *foundSubscribers) each(yield func(*Stream) bool) {
	for _, streams := range f.byName {
		for _, st := range streams {
			if !yield(st) {
				return
			}
		}
	}

	pattern := isPattern(f.topic)
	seen := make(map[*Stream]struct{}) // those that may be found again
	for _, piece := range f.byPatterns {
		for _, st := range piece {
			if len(st.topics.names) > 1 {
				if _, again := seen[st]; again {
					continue
				}
				seen[st] = struct{}{}
			}
			// The tree takes a last token ">" of the topic for any token.
			if pattern && !st.topics.cover(f.topic) {
				continue
			}
			if !yield(st) {
				return
			}
		}
	}
}

// isListedByShard reports whether st, which subscribes to a topic, is in one of the
// topic's groups, and not in the tree of the streams with patterns.
func isListedByShard(st *Stream, topic string) bool {
	return !st.topics.patterns || hasEmptyToken(topic)
}

// cover reports whether one of the topics or patterns covers pattern.
func (s *subscriptions) cover(pattern string) bool {
	return slices.ContainsFunc(s.names, func(name string) bool { return Covers(name, pattern) })
}
