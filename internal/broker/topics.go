package broker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/btree"
	"github.com/nats-io/nats-server/v2/server/gsl"
)

const (
	// MaxTopic is the maximum length of a topic or pattern, in bytes.
	MaxTopic = 255
	// MaxTopics is the maximum number of topics and patterns per stream.
	MaxTopics = 100
)

// ValidTopic returns nil if name can be published to, or an *InvalidError. A
// topic is 1 to 255 bytes of UTF-8 without control characters. Its tokens are
// separated by dots, and must not be "*" or ">", which are the wildcards in
// patterns.
func ValidTopic(name string) error {
	if err := validName("topic", name, MaxTopic); err != nil {
		return err
	}
	if isPattern(name) {
		return &InvalidError{"topic", fmt.Sprintf("is the pattern %q; want a topic without wildcards", name)}
	}
	return nil
}

// ValidPattern returns nil if a stream can subscribe to pattern, or an
// *InvalidError. A pattern is a topic that may contain the wildcards of NATS
// subjects: a token "*" matches any one token, and ">" as the last token matches
// one or more tokens.
func ValidPattern(pattern string) error {
	if err := validName("topic", pattern, MaxTopic); err != nil {
		return err
	}
	if !isPattern(pattern) {
		return nil
	}
	rest := pattern
	for more := true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		switch {
		case token == "":
			return &InvalidError{"topic", fmt.Sprintf("is the pattern %q, which has an empty token", pattern)}
		case token == ">" && more:
			return &InvalidError{"topic", fmt.Sprintf("is the pattern %q, in which \">\" is not the last token", pattern)}
		}
	}
	return nil
}

// isPattern reports whether one of the tokens of name is a wildcard.
func isPattern(name string) bool {
	if !strings.ContainsAny(name, "*>") {
		return false
	}
	for token := range strings.SplitSeq(name, ".") {
		if token == "*" || token == ">" {
			return true
		}
	}
	return false
}

// Covers reports whether allowed matches every topic that pattern matches. Both
// may be topics themselves.
func Covers(allowed, pattern string) bool {
	if allowed == pattern {
		return true
	}
	for {
		a, aRest, aMore := strings.Cut(allowed, ".")
		p, pRest, pMore := strings.Cut(pattern, ".")
		switch {
		case p == "" || a == "":
			return false // no wildcard matches an empty token
		case a == ">":
			return !hasEmptyToken(pattern)
		case p == ">":
			return false
		case a != "*" && a != p:
			return false
		case !aMore || !pMore:
			return aMore == pMore
		}
		allowed, pattern = aRest, pRest
	}
}

func hasEmptyToken(name string) bool {
	return name == "" || name[0] == '.' || name[len(name)-1] == '.' || strings.Contains(name, "..")
}

// topics holds the subscriptions of all streams. It is guarded by Broker.mu,
// except for the groups, which their shards own.
type topics struct {
	byName *btree.BTreeG[*topic]
	sought *topic // scratch space of find
	// patterns holds all topics of streams that subscribe to at least one pattern.
	// So a stream is either here or in the topics' groups, and is counted once.
	patterns *gsl.GenericSublist[*Stream]
}

// topic is a topic or pattern with at least one subscriber.
type topic struct {
	name        string
	subscribers int32
	left        int32        // streams in several that have left
	groups      []topicGroup // by shard; the streams that don't subscribe to any pattern
	several     []*Stream    // of those in groups, the ones that have further topics; see topic.leave
}

type topicGroup struct {
	group

	// The fields below are guarded by Broker.mu.

	joined  int32 // streams that have joined and haven't left
	several int32 // of these, the ones that have further topics
}

func newTopics() topics {
	return topics{
		byName:   btree.NewG(32, func(a, b *topic) bool { return a.name < b.name }),
		sought:   new(topic),
		patterns: gsl.NewSublist[*Stream](),
	}
}

// find returns the topic or pattern with the given name.
func (t *topics) find(name string) (*topic, bool) {
	t.sought.name = name
	return t.byName.Get(t.sought)
}

// join subscribes st to its topics.
func (t *topics) join(st *Stream, shards int) {
	for i, name := range st.topics.names {
		entry, ok := t.find(name)
		if !ok {
			entry = &topic{name: name}
			t.byName.ReplaceOrInsert(entry)
		}
		entry.subscribers++
		if st.topics.patterns {
			// Names have been validated. The only valid names that gsl rejects
			// have empty tokens, which no wildcard matches.
			if err := t.patterns.Insert(name, st); err == nil {
				continue
			}
		}
		if entry.groups == nil {
			entry.groups = make([]topicGroup, shards)
		}
		g := &entry.groups[st.shard.number]
		g.joined++
		st.topics.groups[i] = g
		if st.topics.several() {
			g.several++
			entry.several = append(entry.several, st)
		}
	}
}

// leave undoes join.
func (t *topics) leave(st *Stream) {
	st.topics.left = true
	for i, name := range st.topics.names {
		entry, ok := t.find(name)
		if !ok {
			continue
		}
		if g := st.topics.groups[i]; g != nil {
			g.joined--
			if st.topics.several() {
				g.several--
				entry.leave()
			}
		} else {
			_ = t.patterns.Remove(name, st) // it was inserted
		}
		if entry.subscribers--; entry.subscribers == 0 {
			t.byName.Delete(entry)
		}
	}
}

// leave records that a stream in t.several has left. The stream stays in the list for
// now, so that the cost of leaving doesn't depend on the number of streams.
func (t *topic) leave() {
	if t.left++; 2*int(t.left) > len(t.several) {
		t.several = slices.DeleteFunc(t.several, func(st *Stream) bool { return st.topics.left })
		t.left = 0
	}
}

// Topic is a topic or pattern that streams subscribe to.
type Topic struct {
	Name string
	// Subscribers is the number of streams that subscribe to exactly this
	// name.
	Subscribers int
}

// Topics returns up to limit topics and patterns that streams subscribe to,
// whose names start with prefix and are greater than after, in ascending order
// (by byte).
func (b *Broker) Topics(prefix, after string, limit int) []Topic {
	b.mu.Lock()
	defer b.mu.Unlock()
	return page(b.topics.byName, &topic{name: max(prefix, after)}, prefix, after, limit,
		func(t *topic) (string, Topic) { return t.name, Topic{t.name, int(t.subscribers)} })
}

// page collects up to limit entries from a tree, starting at the pivot, whose names
// start with prefix and are greater than after.
func page[E, R any](tree *btree.BTreeG[E], pivot E, prefix, after string, limit int, row func(E) (string, R)) []R {
	var rows []R
	tree.AscendGreaterOrEqual(pivot, func(e E) bool {
		name, r := row(e)
		if !strings.HasPrefix(name, prefix) || len(rows) >= limit {
			return false
		}
		if name > after {
			rows = append(rows, r)
		}
		return true
	})
	return rows
}

// subscribers appends the destinations of an event for a topic to mail, and
// returns the number of streams. Groups may include streams of the user that the event
// excludes.
func (t *topics) subscribers(e *event, shards []*shard, mail []delivery) (recipients int, _ []delivery) {
	if entry, ok := t.find(e.audience.name); ok {
		for i := range entry.groups {
			if g := &entry.groups[i]; g.joined > 0 {
				recipients += int(g.joined)
				mail = append(mail, delivery{shards[i], &g.group})
			}
		}
	}

	byNames := len(mail)
	t.patterns.Match(e.audience.name, func(st *Stream) {
		if st.matched == e.seq {
			return // another of its patterns matched
		}
		st.matched = e.seq
		if e.excludes(st) {
			return
		}
		recipients++
		i := slices.IndexFunc(mail[byNames:], func(d delivery) bool { return d.shard == st.shard })
		if i < 0 {
			i = len(mail) - byNames
			mail = append(mail, delivery{st.shard, new(group)})
		}
		mail[byNames+i].group.add(st)
	})
	return recipients, mail
}

// alone returns parcels with an event for the streams that subscribe to its topic and to
// nothing else, and the number of these streams.
func (t *topics) alone(e *event, shards []*shard) (parcels []parcel, streams int) {
	entry, ok := t.find(e.audience.name)
	if !ok {
		return nil, 0
	}
	for i := range entry.groups {
		g := &entry.groups[i]
		if n := int(g.joined - g.several); n > 0 {
			parcels = append(parcels, parcel{shards[i], item{kind: deliver, alone: true, event: e, group: &g.group}})
			streams += n
		}
	}
	return parcels, streams
}

// eachOther calls f for every stream that subscribes to a topic and to anything else,
// possibly more than once.
func (t *topics) eachOther(name string, f func(*Stream)) {
	if entry, ok := t.find(name); ok {
		for _, st := range entry.several {
			if !st.topics.left {
				f(st)
			}
		}
	}
	t.patterns.Match(name, f)
}

// IsPattern reports whether the topic is a pattern.
func (t Topic) IsPattern() bool { return isPattern(t.Name) }
