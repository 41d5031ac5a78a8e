package broker

import (
	"slices"
	"sync/atomic"
)

// siblings describes the events of a message for several topics: one for each topic,
// which belongs to that topic's lane, has that topic's policy, and so on. They share
// their sequence number, their encoded bytes and their share of the backlog. A stream
// that wants several of them gets only the first.
//
// A sibling doesn't keep the others in memory, since they may leave the history earlier.
type siblings struct {
	pending atomic.Int32 // as in event, for all siblings
	topics  []string     // of the message, in its order
	ends    []topicEnd   // of all topics, if the message is final

	// The fields below are guarded by Broker.mu.

	events    []*event // in the order of the message's topics; nil once they have been posted
	held      []*event // those that the history holds; it counts the shared bytes for the first
	copyBytes int32    // what the history counts for the shared packed
}

// topicEnd is the peald.end for a topic.
type topicEnd struct {
	topic Audience
	event *event
}

// siblingOverhead is the approximate memory that each of several siblings adds to what
// they share, in bytes, besides the name of its topic.
const siblingOverhead = 24

// addSiblings adds e's siblings for the other topics of m.
func (e *event) addSiblings(m *Message) {
	s := &siblings{events: make([]*event, 1, 1+len(m.Topics)), topics: append([]string{m.Audience.name}, m.Topics...)}
	s.events[0] = e
	for i, name := range m.Topics {
		x := &extra{exclude: m.ExcludeUser, index: int32(i + 1)}
		s.events = append(s.events, &event{audience: ToTopic(name), conflateKey: m.ConflateKey, final: m.Final, cost: e.cost, extra: x})
	}

	shared := new(packed)
	for _, sibling := range s.events {
		sibling.packed.Store(shared)
		sibling.extra.siblings = s
		if m.Final {
			sibling.extra.end = endEvent(sibling.audience.name, "")
			s.ends = append(s.ends, topicEnd{sibling.audience, sibling.extra.end})
		}
	}
}

// place gives all siblings the position and the times of the first.
func (s *siblings) place() {
	first := s.events[0]
	for _, e := range s.events[1:] {
		e.seq, e.at, e.expires = first.seq, first.at, first.expires
	}
}

// share gives all siblings the bytes of the first.
func (s *siblings) share() {
	for _, e := range s.events[1:] {
		e.frame = s.events[0].frame
	}
}

// posted gives all siblings the number of recipients, and forgets the siblings.
func (s *siblings) posted(recipients int32) {
	for _, e := range s.events {
		e.recipients = recipients
	}
	s.events = nil
}

// areFor reports whether one of the siblings is for the given topic.
func (s *siblings) areFor(topic string) bool { return slices.Contains(s.topics, topic) }

// topicsFor returns the topics of e's message that st subscribes to, in the message's
// order, if there are several.
func (e *event) topicsFor(st *Stream) (topics []string) {
	s := e.siblings()
	if s == nil || st.isAlone() {
		return nil
	}
	for _, name := range s.topics {
		if st.wants(ToTopic(name)) {
			topics = append(topics, name)
		}
	}
	if len(topics) < 2 {
		return nil
	}
	return topics
}

// sharedBytes returns the bytes that the history counts for what e shares with its
// siblings.
func (e *event) sharedBytes() int {
	s := e.extra.siblings
	n := len(e.frame.chunk) + int(s.copyBytes)
	for _, name := range s.topics {
		n += siblingOverhead + len(name)
	}
	for _, end := range s.ends {
		n += len(end.event.frame.chunk) + eventOverhead
	}
	return n
}

// appendAll is append for siblings.
func (h *history) appendAll(s *siblings) {
	first := s.events[0]
	if h.limits.MaxEvents == 0 {
		for _, e := range s.events {
			e.policy = h.policies.find(e.audience)
		}
		h.lose(first.seq, first.at)
		return
	}

	s.held = slices.Clone(s.events)
	for _, e := range s.events {
		h.push(e)
	}
	h.expire(first.at)
	for _, e := range s.events {
		h.limit(h.lanes[e.audience])
	}
	h.evict(first.at)
}

// release records that e, one of the siblings, has been removed from the history. If it
// was the one for which the shared bytes are counted, they are now counted for another.
func (h *history) release(s *siblings, e *event) {
	i := slices.Index(s.held, e)
	s.held = slices.Delete(s.held, i, i+1)
	switch {
	case len(s.held) == 0:
		s.held = nil
	case i == 0:
		next := s.held[0]
		h.count(h.lanes[next.audience], next.sharedBytes())
	}
}

// growShared counts n more bytes that the siblings share, and applies the limits as of
// now (in Unix nanoseconds). It does nothing if all of them have been removed.
func (h *history) growShared(s *siblings, n int, now int64) {
	if len(s.held) > 0 {
		s.copyBytes += int32(n)
		h.count(h.lanes[s.held[0].audience], n)
		h.evict(now)
	}
}
