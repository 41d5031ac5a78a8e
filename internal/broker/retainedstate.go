package broker

import (
	"bytes"
	"fmt"
	"math"
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
	// Rejected are the sequence numbers of messages up to Applied that weren't
	// accepted because there was no room to retain them, in ascending order.
	Rejected []uint64
	// Values are the values, in the order in which they were published.
	Values []RetainedValue
}

// RetainedValue is a retained value.
type RetainedValue struct {
	// ID is the event's id. Its epoch may be an earlier one.
	ID string
	// Audience and ConflateKey identify the value.
	Audience    Audience
	ConflateKey string
	// At is when the message was published, and Expires when it expires, in Unix
	// nanoseconds; 0 for never.
	At, Expires int64
	// Block is the event as it is sent to streams, with its id. It must not be
	// modified.
	Block []byte
}

// RetainedApplied returns the last position of a replica's log that the retained values
// include, and the number of values.
func (b *Broker) RetainedApplied() (applied uint64, values int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.retained.applied, len(b.retained.byKey)
}

// RetainedState returns the retained values of a replica.
func (b *Broker) RetainedState() RetainedState {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.retained
	s := RetainedState{
		Epoch: b.ids.Load().epoch, Applied: r.applied, Rejected: slices.Clone(r.rejected),
		Values: make([]RetainedValue, 0, len(r.byKey)),
	}
	for _, slot := range r.all.slots {
		if slot.value == nil {
			continue
		}
		e := slot.value.event
		s.Values = append(s.Values, RetainedValue{
			ID: e.wireID(), Audience: e.audience, ConflateKey: e.conflateKey, At: e.at, Expires: e.expires, Block: e.frame.block(),
		})
	}
	return s
}

// wireID returns the event's id, as it is in its block.
func (e *event) wireID() string {
	line, _, _ := bytes.Cut(e.frame.block(), []byte("\n"))
	return string(bytes.TrimPrefix(line, []byte("id: ")))
}

// RestoreRetained sets the retained values of a replica. It must be called after Begin
// and before entries are applied. Entries up to the sequence number applied, in the log
// that has begun, don't change the values. It returns an error, and restores nothing, if
// the state is invalid.
func (b *Broker) RestoreRetained(s RetainedState, applied uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := newRetained(b.retained.limits)
	r.applied, r.rejected = applied, s.Rejected
	for i, stored := range s.Values {
		v, err := stored.restore()
		if err != nil {
			return fmt.Errorf("retained value %d: %w", i, err)
		}
		epoch, seq, err := parseID(stored.ID)
		if err != nil {
			return fmt.Errorf("retained value %d: %w", i, err)
		}
		v.event.seq, v.order = 1, uint64(i+1) // for a position in an earlier log, see retainedValue.order
		if epoch == b.ids.Load().epoch {
			v.event.seq, v.order = seq, orderOf(seq)
		}
		if n := len(r.all.slots); r.byKey[v.key()] != nil || n > 0 && r.all.slots[n-1].order >= v.order {
			return fmt.Errorf("retained value %d: %s is out of order", i, stored.ID)
		}
		r.put(v)
	}
	b.retained = r
	return nil
}

// restore returns the value without its position.
func (stored *RetainedValue) restore() (*retainedValue, error) {
	if err := stored.Audience.validate(); err != nil {
		return nil, err
	}
	if err := validKey("conflate_key", stored.ConflateKey); err != nil {
		return nil, err
	}
	if len(stored.Block) > math.MaxInt32/2 {
		return nil, &InvalidError{"block", fmt.Sprintf("is %d bytes long", len(stored.Block))}
	}

	// A frame must hold one event in the broker's own encoding.
	var encoded []byte
	events := 0
	decoder := eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		events++
		encoded = eventstream.AppendEvent(nil, string(e.ID), string(e.Type), string(e.Data))
	}}
	_, err := decoder.Write(stored.Block)
	if err != nil || events != 1 || !bytes.Equal(encoded, stored.Block) || !bytes.HasPrefix(encoded, []byte("id: "+stored.ID+"\n")) {
		return nil, &InvalidError{"block", "isn't an encoded event with the value's id"}
	}

	buf := append(make([]byte, chunkRoom, chunkRoom+len(stored.Block)+len(chunkEnd)), stored.Block...)
	e := &event{
		audience: stored.Audience, conflateKey: stored.ConflateKey, at: stored.At, expires: stored.Expires,
		frame: sealFrame(buf, chunkRoom),
	}
	fields := len(stored.Block) - len("id: "+stored.ID+"\n")
	return &retainedValue{event: e, cost: e.retainedCost(fields)}, nil
}
