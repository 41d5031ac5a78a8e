package broker

import "math"

// delivery is the destination of an event.
type delivery struct {
	shard *shard
	group *group // the streams; nil for all of the shard's streams
}

// fanOut posts e and its siblings to the shards that hold streams of their audiences. It
// returns the number of these streams, and whether any shard got one. The caller holds
// b.mu.
func (b *Broker) fanOut(e *event) (recipients int, posted bool) {
	if s := e.siblings(); s != nil {
		recipients, posted = b.fanOutSiblings(s)
	} else {
		recipients, posted = b.fanOutOne(e)
	}

	e.recipients = int32(min(recipients, math.MaxInt32))
	if len(b.taps) > 0 {
		b.feedTaps(e)
	}
	if s := e.siblings(); s != nil {
		s.posted(e.recipients)
	}
	return recipients, posted
}

// fanOutOne is fanOut for an event without siblings.
func (b *Broker) fanOutOne(e *event) (recipients int, posted bool) {
	mail := b.mail[:0]
	switch e.audience.kind {
	case everyone:
		recipients = b.total
		for i, n := range b.open {
			if n > 0 {
				mail = append(mail, delivery{b.shards[i], nil})
			}
		}
		if a := b.excludedAccount(e); a != nil {
			recipients -= int(a.connections)
		}
	case oneUser:
		if a, ok := b.accounts.Get(&account{id: e.audience.name}); ok {
			recipients = int(a.connections)
			mail = append(mail, delivery{b.shardFor(a.id), &a.group})
		}
	case oneTopic:
		recipients, mail = b.topics.subscribers(e, b.shards, mail)
		if a := b.excludedAccount(e); a != nil {
			recipients -= a.inGroups(e.isFor, false)
		}
	case nobody:
	}

	e.pending.Store(int32(len(mail)))
	for _, d := range mail {
		d.shard.post(item{kind: deliver, event: e, group: d.group})
	}
	clear(mail)
	b.mail = mail
	return recipients, len(mail) > 0
}

// excludedAccount returns the account of the user that e excludes; nil if there is none.
// The caller holds b.mu.
func (b *Broker) excludedAccount(e *event) *account {
	user := e.excluded()
	if user == "" {
		return nil
	}
	a, _ := b.accounts.Get(&account{id: user})
	return a
}

// parcel is an item for a shard.
type parcel struct {
	shard *shard
	item  item
}

// fanOutSiblings posts siblings so that each stream gets the first one that it wants.
// Streams with a single topic get theirs through the topic's group. Others could be in
// several of these groups, so they are looked up here and get theirs through groups of
// their own. The caller holds b.mu.
func (b *Broker) fanOutSiblings(s *siblings) (recipients int, posted bool) {
	var parcels []parcel
	for _, e := range s.events {
		alone, n := b.topics.alone(e, b.shards)
		parcels, recipients = append(parcels, alone...), recipients+n

		some := make([]*group, len(b.shards))
		b.topics.eachOther(e.audience.name, func(st *Stream) {
			if st.matched == e.seq {
				return // it gets an earlier sibling
			}
			st.matched = e.seq
			if e.excludes(st) {
				return
			}
			recipients++
			g := &some[st.shard.number]
			if *g == nil {
				*g = new(group)
				parcels = append(parcels, parcel{st.shard, item{kind: deliver, event: e, group: *g}})
			}
			(*g).add(st)
		})
	}
	if a := b.excludedAccount(s.events[0]); a != nil {
		recipients -= a.inGroups(s.areFor, true)
	}

	s.pending.Store(int32(len(parcels)))
	for _, p := range parcels {
		p.shard.post(p.item)
	}
	return recipients, len(parcels) > 0
}

// taken records that a shard has taken e out of its mailbox.
func (b *Broker) taken(e *event) {
	pending := &e.pending
	if s := e.siblings(); s != nil {
		pending = &s.pending
	}
	if pending.Add(-1) == 0 {
		b.backlog.Release(int64(e.cost))
	}
}

// list adds a stream that has topics to those of its user. The caller holds Broker.mu.
func (a *account) list(st *Stream) {
	st.topics.next = a.listed
	a.listed = st
}

// unlist removes a stream from those of its user, after it has left. The stream stays in
// the list for now, so that the cost of leaving doesn't depend on the number of streams.
// The caller holds Broker.mu.
func (a *account) unlist() {
	if a.unlisted++; a.unlisted <= a.connections {
		return
	}
	for at := &a.listed; *at != nil; {
		if st := *at; st.topics.left {
			*at = st.topics.next
		} else {
			at = &st.topics.next
		}
	}
	a.unlisted = 0
}

// inGroups returns the number of the user's streams that are in the group of one of the
// topics that selects, except those that have left. If alone is set, it counts only
// streams with a single topic. The caller holds Broker.mu.
func (a *account) inGroups(selects func(topic string) bool, alone bool) (n int) {
	for st := a.listed; st != nil; st = st.topics.next {
		if s := st.topics; !s.left && (!alone || !s.several()) && s.inGroup(selects) {
			n++
		}
	}
	return n
}

// inGroup reports whether the stream is in the group of a topic that selects. The caller
// holds Broker.mu.
func (s *subscriptions) inGroup(selects func(topic string) bool) bool {
	for i, name := range s.names {
		if s.groups[i] != nil && selects(name) {
			return true
		}
	}
	return false
}

// several reports whether the stream has more than one topic or pattern.
func (s *subscriptions) several() bool { return len(s.names) > 1 }
