package broker

import (
	"fmt"
	"iter"
	"slices"

	"github.com/peald/peald/internal/eventstream"
)

// RetainedState holds the retained values at a position in a replica's event log, so
// that a replica which starts later can restore them.
type RetainedState struct {
	// Epoch is the epoch of the log.
	Epoch string
	// Applied is the last sequence number that the values include.
	Applied uint64
	// Rejected holds the sequence numbers, in ascending order, of messages up to
	// Applied that weren't accepted because there was no room to retain them.
	Rejected []uint64

	events []*event
}

// RetainedValue is a retained value, or the values of several topics that come from the
// same message.
type RetainedValue struct {
	// ID is the event's id. Its epoch may be an earlier one.
	ID string
	// Audience and ConflateKey identify the value.
	Audience    Audience
	ConflateKey string
	// Topics are the further topics whose values come from the message. ExcludeUser is
	// that of the message.
	Topics      []string
	ExcludeUser string
	// Event and Data are what clients get, with LF for each line break.
	Event, Data string
	Final       bool
	// At and Expires are the times at which it was published and expires, in Unix
	// nanoseconds; 0 for never.
	At, Expires int64
}

// Values returns the values, in the order in which they were published.
func (s RetainedState) Values() iter.Seq[RetainedValue] {
	return func(yield func(RetainedValue) bool) {
		for i := 0; i < len(s.events); {
			e := s.events[i]
			m := e.decode()
			v := RetainedValue{
				ID: m.ID, Audience: e.audience, ConflateKey: e.conflateKey, ExcludeUser: m.ExcludeUser,
				Event: m.Event, Data: m.Data, Final: e.final, At: e.at, Expires: e.expires,
			}
			for i++; i < len(s.events) && e.siblings() != nil && s.events[i].siblings() == e.siblings(); i++ {
				v.Topics = append(v.Topics, s.events[i].audience.name)
			}
			if !yield(v) {
				return
			}
		}
	}
}

// RetainedProgress describes how the retained values of a replica change.
type RetainedProgress struct {
	// Applied is the last position of the log that the values include.
	Applied uint64
	// Changes is the number of changes to the values since the log began.
	Changes uint64
	// Bytes is the memory that the values use.
	Bytes int
}

// RetainedProgress returns the progress of a replica.
func (b *Broker) RetainedProgress() RetainedProgress {
	b.mu.Lock()
	defer b.mu.Unlock()
	return RetainedProgress{b.retained.applied, b.retained.changes, b.retained.bytes}
}

// RetainedState returns the retained values of a replica, and its progress.
func (b *Broker) RetainedState() (RetainedState, RetainedProgress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.retained
	s := RetainedState{
		Epoch: b.ids.Load().epoch, Applied: r.applied, Rejected: slices.Clone(r.rejected),
		events: make([]*event, 0, len(r.byKey)),
	}
	for _, slot := range r.all.slots {
		if slot.value != nil {
			s.events = append(s.events, slot.value.event)
		}
	}
	return s, RetainedProgress{r.applied, r.changes, r.bytes}
}

// RestoreRetained sets the retained values of a replica, which must be in order. It
// must be called after Begin and before entries are applied. Entries of the new log up
// to the sequence number applied don't change the values. Those in rejected weren't
// accepted. It returns an error, and restores nothing, if a value is invalid.
func (b *Broker) RestoreRetained(values []RetainedValue, rejected []uint64, applied uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := newRetained(b.retained.limits, b.digester)
	r.applied, r.rejected = applied, rejected
	last := uint64(0) // the order of the previous value
	for i := range values {
		restored, err := b.restoreValues(&values[i])
		if err != nil {
			return fmt.Errorf("retained value %d: %w", i, err)
		}
		for _, v := range restored {
			if v.order == 0 {
				v.order = uint64(i + 1)
			}
			if r.byKey[v.key()] != nil || last >= v.order {
				return fmt.Errorf("retained value %d: %s is out of order", i, values[i].ID)
			}
			r.put(v)
		}
		last = restored[0].order
	}
	b.retained = r
	return nil
}

// restoreValues returns the values of a message with their order, which is 0 for values
// from an earlier log. The caller holds b.mu.
func (b *Broker) restoreValues(stored *RetainedValue) ([]*retainedValue, error) {
	m := Message{
		Audience: stored.Audience, Topics: stored.Topics, ExcludeUser: stored.ExcludeUser,
		ConflateKey: stored.ConflateKey, Event: stored.Event, Data: stored.Data, Final: stored.Final,
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	epoch, seq, err := parseID(stored.ID)
	if err != nil {
		return nil, err
	}

	// Streams remember the sequence numbers of events in the current log. A position in
	// an earlier log precedes all of them.
	order, number := uint64(0), seq
	if epoch == b.ids.Load().epoch {
		order = orderOf(seq)
	} else {
		seq = 1
	}
	m.Final = false // the values outlive the end of the topics
	e := newEvent(&m, 0)
	e.seq, e.at, e.expires = seq, stored.At, stored.Expires
	fields := eventstream.AppendFields(nil, stored.Event, stored.Data)
	buf := append(eventstream.AppendID(newBlock(), stored.ID), fields...)
	e.frame = sealFrame(buf, chunkRoom)

	events := []*event{e}
	if s := e.siblings(); s != nil {
		s.place()
		s.share()
		events = s.events
		s.posted(0)
	}
	values := make([]*retainedValue, 0, len(events))
	for _, e := range events {
		e.final = stored.Final
		values = append(values, &retainedValue{event: e, order: order, restored: number, cost: e.retainedCost(len(fields))})
	}
	return values, nil
}
