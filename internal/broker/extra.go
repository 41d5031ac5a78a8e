package broker

// extra holds what only few events have.
type extra struct {
	end      *event    // the peald.end that follows it; nil unless it is the final event for its topic
	exclude  string    // the user whose streams don't get it; empty for none
	siblings *siblings // nil unless its message is for several topics
	index    int32     // of its topic among those of its message
}

// extraOverhead is the approximate memory of an extra, in bytes.
const extraOverhead = 64

// newEvent returns the event for m, without its position and its bytes. If m is for
// several topics, it is the first of the siblings. cost is what it acquired from
// Broker.backlog.
func newEvent(m *Message, cost int32) *event {
	e := &event{audience: m.Audience, conflateKey: m.ConflateKey, final: m.Final, cost: cost}
	if m.Final || m.ExcludeUser != "" || len(m.Topics) > 0 {
		e.addExtra(m)
	}
	return e
}

// addExtra adds to e what only few events have.
func (e *event) addExtra(m *Message) {
	e.extra = &extra{exclude: m.ExcludeUser}
	switch {
	case len(m.Topics) > 0:
		e.addSiblings(m)
	case m.Final:
		e.extra.end = endEvent(m.Audience.name, "")
	}
}

// siblings returns the siblings that e is one of; nil if there are none.
func (e *event) siblings() *siblings {
	if e.extra == nil {
		return nil
	}
	return e.extra.siblings
}

// index returns the index of e's topic among those of its message.
func (e *event) index() int32 {
	if e.extra == nil {
		return 0
	}
	return e.extra.index
}

// end returns the peald.end that follows e; nil for none.
func (e *event) end() *event {
	if e.extra == nil {
		return nil
	}
	return e.extra.end
}

// excluded returns the user whose streams don't get e; empty for none.
func (e *event) excluded() string {
	if e.extra == nil {
		return ""
	}
	return e.extra.exclude
}

// excludes reports whether st doesn't get e although it may belong to the audience.
func (e *event) excludes(st *Stream) bool {
	return e.extra != nil && e.extra.exclude != "" && st.account != nil && st.account.id == e.extra.exclude
}

// isFor reports whether e is for the given topic.
func (e *event) isFor(topic string) bool { return e.audience == ToTopic(topic) }

// historyBytes returns the bytes that the history counts for e.
func (e *event) historyBytes() int {
	n := eventOverhead + int(e.copyBytes)
	if e.extra == nil {
		return n + len(e.frame.chunk)
	}

	n += extraOverhead + len(e.extra.exclude)
	if s := e.extra.siblings; s == nil {
		n += len(e.frame.chunk)
	} else if s.held[0] == e {
		n += e.sharedBytes()
	}
	return n
}
