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

// RetainedValue is a retained value.
type RetainedValue struct {
	// ID is the event's id. Its epoch may be an earlier one.
	ID string
	// Audience and ConflateKey identify the value.
	Audience    Audience
	ConflateKey string
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
		for _, e := range s.events {
			m := e.decode()
			if !yield(RetainedValue{m.ID, e.audience, e.conflateKey, m.Event, m.Data, e.final, e.at, e.expires}) {
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
	for i := range values {
		v, err := b.restoreValue(&values[i])
		if err != nil {
			return fmt.Errorf("retained value %d: %w", i, err)
		}
		if v.order == 0 {
			v.order = uint64(i + 1)
		}
		if n := len(r.all.slots); r.byKey[v.key()] != nil || n > 0 && r.all.slots[n-1].order >= v.order {
			return fmt.Errorf("retained value %d: %s is out of order", i, values[i].ID)
		}
		r.put(v)
	}
	b.retained = r
	return nil
}

// restoreValue returns a value with its order, which is 0 for a value from an earlier
// log. The caller holds b.mu.
func (b *Broker) restoreValue(stored *RetainedValue) (*retainedValue, error) {
	m := Message{Audience: stored.Audience, ConflateKey: stored.ConflateKey, Event: stored.Event, Data: stored.Data, Final: stored.Final}
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
	e := &event{seq: seq, audience: stored.Audience, conflateKey: stored.ConflateKey, at: stored.At, expires: stored.Expires, final: stored.Final}
	fields := eventstream.AppendFields(nil, stored.Event, stored.Data)
	buf := append(eventstream.AppendID(newBlock(), stored.ID), fields...)
	e.frame = sealFrame(buf, chunkRoom)
	return &retainedValue{event: e, order: order, restored: number, cost: e.retainedCost(len(fields))}, nil
}
