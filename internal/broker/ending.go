package broker

import (
	"encoding/json"
	"iter"

	"github.com/peald/peald/internal/eventstream"
)

// endType is the type of the event that reports the end of a topic.
const endType = ReservedTypes + "end"

// endEvent returns an event that informs a client of the end of a topic. Right after the
// final event, id is empty, since the client has the position.
func endEvent(topic, id string) *event {
	data, err := json.Marshal(struct {
		Topic string `json:"topic"`
	}{topic})
	if err != nil {
		panic(err) // a string can always be marshaled
	}
	return &event{frame: sealFrame(eventstream.AppendEvent(newBlock(), id, endType, string(data)), chunkRoom)}
}

// isAlone reports whether the stream subscribes to exactly one topic, by name.
func (st *Stream) isAlone() bool {
	return st.topics != nil && len(st.topics.names) == 1 && !st.topics.patterns
}

// deliverEnds queues the ends of topics after their final event, e, and closes st if it
// has no others.
func (s *shard) deliverEnds(st *Stream, e *event) {
	for _, end := range e.endsFor(st) {
		s.enqueue(st, end)
	}
	if st.isAlone() {
		s.closeEnded(st)
	}
}

// endsFor yields the topics of st that the final event e ends, and the events that report
// their ends.
func (e *event) endsFor(st *Stream) iter.Seq2[Audience, *event] {
	return func(yield func(Audience, *event) bool) {
		s := e.siblings()
		if s == nil {
			yield(e.audience, e.end())
			return
		}
		for _, end := range s.ends {
			if st.wants(end.topic) && !yield(end.topic, end.event) {
				return
			}
		}
	}
}

// closeEnded closes a stream once its queue has been written.
func (s *shard) closeEnded(st *Stream) {
	if st.phase == phaseOpen { // a drain closes the others
		st.closeReason = Ended
		s.beginClosing(st, phaseStopping)
	}
}

// hasEnded reports whether the only topic of a stream has ended. The caller holds b.mu.
func (b *Broker) hasEnded(st *Stream) bool {
	return st.isAlone() && b.finalEvent(st.topics.names[0]) != 0
}

// finalEvent returns the sequence number of the event that ended a topic. It returns 0
// if the topic hasn't ended, or if the history no longer remembers that it has. The
// caller holds b.mu.
func (b *Broker) finalEvent(topic string) uint64 {
	if l := b.history.lanes[ToTopic(topic)]; l != nil {
		return l.final
	}
	return 0
}

// startWithEnds finds the topics of a stream that have ended, unless it gets their final
// events. Streams with a single topic are closed instead: see hasEnded. The caller holds
// b.mu.
func (b *Broker) startWithEnds(st *Stream) {
	if st.topics == nil || st.isAlone() {
		return
	}
	for _, name := range st.topics.names {
		l := b.history.lanes[ToTopic(name)]
		if l == nil || l.final == 0 || l.final > st.cursor && l.len() > 0 && l.at(l.len()-1).seq == l.final {
			continue
		}
		if st.resume == nil {
			st.resume = new(resumption)
		}
		st.resume.ends = append(st.resume.ends, name)
	}
}

// queueEnds queues the ends of topics that had ended before the stream started.
func (s *shard) queueEnds(st *Stream) {
	for _, topic := range st.resume.ends {
		s.queueEvents(st, endEvent(topic, ""))
	}
	st.resume.ends = nil
}

// NothingFollows reports whether a client that subscribes to the given topics and
// resumes after an event would get nothing: the only topic has ended, and the client
// has received its final event.
func (b *Broker) NothingFollows(topics []string, lastEventID string) bool {
	if len(topics) != 1 || lastEventID == "" || isPattern(topics[0]) {
		return false
	}
	epoch, seq, err := parseID(lastEventID)
	if err != nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	final := b.finalEvent(topics[0])
	return final != 0 && epoch == b.ids.Load().epoch && final <= seq && seq <= b.seq
}
