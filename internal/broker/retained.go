package broker

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/peald/peald/internal/eventstream"
)

// Retain limits the retained values.
type Retain struct {
	// MaxEvents is the maximum number of values. If it is 0, none are accepted.
	MaxEvents int
	// MaxBytes is the maximum memory used by the values and their index, in bytes.
	// Copies of the values in envelopes may use as much again.
	MaxBytes int
}

// RetainFullError is the error for a message that can't be retained because there are
// too many values, or because they use too much memory.
type RetainFullError struct {
	// Events and Bytes are what the values would amount to with the message.
	Events, Bytes int
	// Limits are the limits that applied.
	Limits Retain
}

func (e *RetainFullError) Error() string {
	if e.Events > e.Limits.MaxEvents {
		return fmt.Sprintf("would make %d retained values; retain.max_events allows %d", e.Events, e.Limits.MaxEvents)
	}
	return fmt.Sprintf("would make the retained values use %d bytes; retain.max_bytes allows %d", e.Bytes, e.Limits.MaxBytes)
}

// retainedOverhead is the approximate memory, in bytes, that a retained value uses
// besides its block and its names: the event, and its entries in the index.
const retainedOverhead = 600

// retained holds the latest value for each audience and conflate key, among the
// messages that have Message.Retain set. New streams get the values of their audiences.
// It is guarded by Broker.mu.
//
// All replicas of an event log must hold the same values, since the values decide
// whether a message is accepted. On a replica, the values, their sizes and the times at
// which they expire therefore depend on the log alone.
type retained struct {
	limits   Retain
	digester digester
	byKey    map[retainedKey]*retainedValue
	lanes    map[Audience]*valueList
	all      valueList
	expiring valueHeap
	bytes    int
	copies   int // memory of the values' other encodings, which depends on this daemon's streams

	// The fields below are used on replicas.

	applied  uint64   // the last position of the log that the values include
	changes  uint64   // the number of changes to the values and to rejected
	rejected []uint64 // the latest messages in the log that weren't accepted, in order
}

// maxRejected is the maximum number of positions in retained.rejected. Publishing nodes
// reject messages before appending them, so few are rejected later.
const maxRejected = 1 << 12

// retainedKey identifies a value.
type retainedKey struct {
	audience    Audience
	conflateKey string
}

// retainedValue is an event that is retained.
type retainedValue struct {
	event     *event
	order     uint64 // see orderOf
	restored  uint64 // the sequence number in the id of a value that was restored; 0 for others
	cost      int32  // memory, in bytes
	copies    int32  // memory of the event's other encodings, in bytes
	heapIndex int32  // in retained.expiring, if the event expires
	lane      *valueList
}

func (v *retainedValue) key() retainedKey {
	return retainedKey{v.event.audience, v.event.conflateKey}
}

// orderOf returns the order of a value with a sequence number of the current log.
// Values from earlier logs have lower orders.
func orderOf(seq uint64) uint64 { return seq | 1<<63 }

// valueList holds values by their order, which is the same for siblings. A value that is removed leaves a dead slot.
// Dead slots are removed once they make up more than half of all slots, so each costs
// constant time on average.
type valueList struct {
	slots  []valueSlot
	live   int
	bytes  int    // memory that the values use, unless the list has several audiences
	digest digest // of the audience, unless the list has several
}

type valueSlot struct {
	order  uint64
	digest digest
	value  *retainedValue // nil if it was removed
}

// after returns the slots that follow the given order.
func (l *valueList) after(order uint64) []valueSlot {
	return l.slots[sort.Search(len(l.slots), func(i int) bool { return l.slots[i].order > order }):]
}

func (l *valueList) push(v *retainedValue) {
	l.slots = append(l.slots, valueSlot{v.order, v.lane.digest, v})
	l.live++
}

func (l *valueList) remove(v *retainedValue) {
	slots := l.after(v.order - 1)
	slots[slices.IndexFunc(slots, func(s valueSlot) bool { return s.value == v })].value = nil
	l.live--
	const few = 8
	if len(l.slots) <= 2*l.live+few {
		return
	}
	kept := slices.DeleteFunc(l.slots, func(s valueSlot) bool { return s.value == nil })
	if l.slots = kept; cap(kept) > 4*len(kept)+few {
		l.slots = slices.Clone(kept) // don't hold on to memory that was only needed for a burst
	}
}

func newRetained(limits Retain, d digester) retained {
	return retained{limits: limits, digester: d, byKey: make(map[retainedKey]*retainedValue), lanes: make(map[Audience]*valueList)}
}

// newRetainedValue returns the retained value for e, whose fields have the given encoded
// size.
func newRetainedValue(e *event, size int) *retainedValue {
	return &retainedValue{event: e, order: orderOf(e.seq), cost: e.retainedCost(size)}
}

// admit returns a *RetainFullError if there is no room for the values of a message. If
// limits were lowered, values may still replace others that are at least as large. Values
// that have expired must have been removed.
func (r *retained) admit(values []*retainedValue, limits Retain) error {
	events, bytes := len(r.byKey)+len(values), r.bytes
	for _, v := range values {
		bytes += int(v.cost)
		if old := r.byKey[v.key()]; old != nil {
			events, bytes = events-1, bytes-int(old.cost)
		}
	}
	if events > max(limits.MaxEvents, len(r.byKey)) || bytes > max(limits.MaxBytes, r.bytes) {
		return &RetainFullError{events, bytes, limits}
	}
	return nil
}

// retainedCost returns the approximate memory, in bytes, that the event uses as a
// retained value, if its encoded fields have the given size.
func (e *event) retainedCost(size int) int32 {
	return int32(retainedOverhead + size + len(e.audience.name) + len(e.conflateKey))
}

// put stores a value, which follows all others except its siblings, in place of the one
// with the same key.
func (r *retained) put(v *retainedValue) {
	key := v.key()
	if old := r.byKey[key]; old != nil {
		r.drop(old)
	}
	lane := r.lanes[key.audience]
	if lane == nil {
		lane = &valueList{digest: r.digester.of(key.audience)}
		r.lanes[key.audience] = lane
	}
	r.changes++
	v.lane = lane
	r.byKey[key] = v
	lane.push(v)
	lane.bytes += int(v.cost)
	r.all.push(v)
	r.bytes += int(v.cost)
	if v.event.expires != 0 {
		heap.Push(&r.expiring, v)
	}
}

// link stores an event that a replica has read from its log in the value that was
// restored for that event, so that a stream doesn't get both. The value's id may be
// from an earlier epoch.
func (r *retained) link(e *event) {
	v := r.byKey[retainedKey{e.audience, e.conflateKey}]
	if v == nil || v.restored != e.seq || v.event.at != e.at {
		return
	}
	if v.order == orderOf(e.seq) {
		r.copies -= int(v.copies)
		v.event, v.restored, v.copies = e, 0, 0
		return
	}
	r.drop(v)
	r.put(&retainedValue{event: e, order: orderOf(e.seq), cost: v.cost})
}

// drop removes a value.
func (r *retained) drop(v *retainedValue) {
	r.changes++
	key := v.key()
	delete(r.byKey, key)
	v.lane.remove(v)
	v.lane.bytes -= int(v.cost)
	if v.lane.live == 0 {
		delete(r.lanes, key.audience)
	}
	r.all.remove(v)
	r.bytes -= int(v.cost)
	r.copies -= int(v.copies)
	if v.event.expires != 0 {
		heap.Remove(&r.expiring, int(v.heapIndex))
	}
}

// expire removes the values that have expired as of now (in Unix nanoseconds).
func (r *retained) expire(now int64) {
	for len(r.expiring) > 0 && r.expiring[0].event.expires <= now {
		r.drop(r.expiring[0])
	}
}

// size returns the number of values, and the memory that they use, excluding those that
// have expired as of now (in Unix nanoseconds). A replica keeps these until the next
// entry of its log.
func (r *retained) size(now int64) (values, bytes int) {
	values, bytes = len(r.byKey), r.bytes
	for v := range r.expiring.expired(now) {
		values--
		bytes -= int(v.cost)
	}
	return values, bytes
}

// reject records that a message in the log wasn't accepted.
func (r *retained) reject(seq uint64) {
	if len(r.rejected) == maxRejected {
		r.rejected = slices.Delete(r.rejected, 0, maxRejected/2)
	}
	r.rejected = append(r.rejected, seq)
	r.changes++
}

// wasRejected reports whether a message at a position covered by the values was
// rejected.
func (r *retained) wasRejected(seq uint64) bool {
	_, found := slices.BinarySearch(r.rejected, seq)
	return found
}

// clear removes the values that c selects, and returns how many there were.
func (r *retained) clear(c Clear) (cleared int) {
	if c.All {
		return r.clearAll()
	}
	if c.ConflateKey != nil {
		if v := r.byKey[retainedKey{c.Audience, *c.ConflateKey}]; v != nil {
			r.drop(v)
			return 1
		}
		return 0
	}
	lane := r.lanes[c.Audience]
	if lane == nil {
		return 0
	}
	for _, s := range slices.Clone(lane.slots) {
		if s.value != nil {
			r.drop(s.value)
			cleared++
		}
	}
	return cleared
}

// clearAll removes all values, and returns how many there were.
func (r *retained) clearAll() (cleared int) {
	empty := newRetained(r.limits, r.digester)
	empty.applied, empty.rejected = r.applied, r.rejected
	cleared, empty.changes = len(r.byKey), r.changes+1
	*r = empty
	return cleared
}

// Clear describes which retained values to remove.
type Clear struct {
	// All removes the values of all audiences. The other fields must not be set.
	All      bool
	Audience Audience
	// ConflateKey removes only the value with this key, which may be empty. If it is
	// nil, all values of the audience are removed.
	ConflateKey *string
}

// Validate returns nil if c is valid, or an *InvalidError.
func (c *Clear) Validate() error {
	if c.All {
		if c.Audience != (Audience{}) || c.ConflateKey != nil {
			return &InvalidError{"all", "can't be combined with an audience or a conflate_key"}
		}
		return nil
	}
	if err := c.Audience.validate(); err != nil {
		return err
	}
	if c.ConflateKey == nil {
		return nil
	}
	return validKey("conflate_key", *c.ConflateKey)
}

// ClearRetained removes retained values and returns how many there were. Streams that
// have received them aren't notified. It returns an *InvalidError if c is invalid, and
// ErrClosed once the broker is closing.
func (b *Broker) ClearRetained(_ context.Context, c Clear) (cleared int, err error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, ErrClosed
	}
	b.retained.expire(b.logNow())
	return b.retained.clear(c), nil
}

// ApplyClear is [Broker.ClearRetained] for an entry in a replica's log, with its
// sequence number and the time at which the log accepted it, in Unix nanoseconds.
func (b *Broker) ApplyClear(seq uint64, at int64, c Clear) (cleared int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, ErrClosed
	}
	b.seq = seq
	if len(b.waiters) > 0 {
		b.releaseWaiters()
	}
	r := &b.retained
	if seq <= r.applied {
		return 0, nil
	}
	r.applied = seq
	r.expire(at)
	return r.clear(c), nil
}

// MayRetain returns a *RetainFullError if there is probably no room for the values of m
// for some of its audiences. A replica uses it to reject a message before it is appended
// to the log. m must be valid.
func (b *Broker) MayRetain(m *Message, audiences ...Audience) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.retained
	if now := b.logNow(); len(r.expiring) > 0 && r.expiring[0].event.expires <= now {
		return nil
	}
	var values []*retainedValue
	for _, a := range audiences {
		e := &event{audience: a, conflateKey: m.ConflateKey}
		values = append(values, newRetainedValue(e, eventstream.FieldsSize(m.Event, m.Data)))
	}
	return r.admit(values, r.limits)
}

// RetainLimits returns the limits for retained values.
func (b *Broker) RetainLimits() Retain { return b.cfg.Load().Retain }

// RetainedByPolicy reports whether a topic's policy causes its messages to be retained.
func (b *Broker) RetainedByPolicy(a Audience) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.history.policies.find(a).retain()
}
