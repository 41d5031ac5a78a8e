package jetstream

import (
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// delivery is a message as the consumer has delivered it.
type delivery struct {
	message jetstream.Msg
	// stream is the message's sequence in the stream, which is its identity.
	stream uint64
	// consumer is the sequence of the delivery. It increases by one with each delivery.
	consumer uint64
	// pin identifies the time during which the server delivers to one client only. Within
	// it, the server's state is consistent.
	pin     string
	written time.Time
}

// snapshot is the state of a consumer at some moment.
type snapshot struct {
	// pin is the pin of the client that the server delivers to; empty if there is none.
	pin string
	// delivered is the consumer sequence of the last delivery.
	delivered uint64
	// pending is the number of messages that have been delivered and not acknowledged.
	pending int
	// highest is the highest stream sequence of a message that has been delivered.
	highest uint64
	// floor is the stream sequence up to which all messages are acknowledged.
	floor uint64
}

// sequencer puts messages into the order of the stream. It is complete if it has every
// message that was ever delivered, to this client or another, and isn't settled. Only then
// does it release messages. It isn't safe for concurrent use.
type sequencer struct {
	complete bool
	pin      string              // of the last delivery
	last     uint64              // consumer sequence of the last delivery
	arrived  []arrival           // all deliveries since the sequencer is incomplete
	high     uint64              // the highest stream sequence so far
	held     map[uint64]delivery // messages that aren't settled, by stream sequence
	queue    []uint64            // stream sequences of held messages to be released, in ascending order
	settled  map[uint64]struct{} // stream sequences of messages that this client has settled
}

// arrival is a delivery's pair of sequences.
type arrival struct{ consumer, stream uint64 }

func newSequencer() *sequencer {
	return &sequencer{held: make(map[uint64]delivery), settled: make(map[uint64]struct{})}
}

// add adds a delivery. It reports whether the message is already settled. Its
// acknowledgement has been lost in that case, and must be repeated.
func (q *sequencer) add(d delivery) (settled bool) {
	if d.pin != q.pin {
		// Meanwhile the server may have delivered to others, or lost its latest state.
		// Whatever isn't settled will be delivered again.
		q.lose()
		q.pin = d.pin
		clear(q.held)
	}
	if q.complete && d.consumer != q.last+1 {
		q.lose()
	}
	q.last = d.consumer
	if !q.complete {
		q.arrived = append(q.arrived, arrival{d.consumer, d.stream})
	}

	if _, settled = q.settled[d.stream]; settled {
		q.high = max(q.high, d.stream)
		return true
	}

	_, redelivered := q.held[d.stream]
	q.held[d.stream] = d

	switch {
	case !q.complete || redelivered:
	case d.stream > q.high:
		q.queue = append(q.queue, d.stream)
	default:
		// Another client had it, and the count at the start included it wrongly.
		q.lose()
		q.arrived = append(q.arrived, arrival{d.consumer, d.stream})
	}
	q.high = max(q.high, d.stream)

	return false
}

// lose makes the sequencer incomplete.
func (q *sequencer) lose() {
	q.complete = false
	q.arrived, q.queue = q.arrived[:0], nil
}

// compare makes the sequencer complete if it has everything that is unacknowledged
// according to a state of the consumer, and reports whether it is complete. The state may
// be old.
func (q *sequencer) compare(s snapshot) bool {
	if q.complete {
		return true
	}
	if s.pin != q.pin || q.last < s.delivered {
		return false // Deliveries are still on their way, at least.
	}

	known := 0
	for _, d := range q.held {
		// A message up to the floor has been acknowledged by an earlier reader after it was
		// delivered here.
		if d.consumer <= s.delivered && d.stream > s.floor {
			known++
		}
	}
	if known < s.pending {
		return false
	}

	// The deliveries after the snapshot must be complete too.
	last, highest := s.delivered, s.highest
	for _, a := range q.arrived {
		switch {
		case a.consumer <= s.delivered:
		case a.consumer == last+1:
			last, highest = a.consumer, max(highest, a.stream)
		default:
			return false
		}
	}

	q.complete, q.last, q.high = true, last, highest
	q.arrived = q.arrived[:0]
	q.queue = slices.Sorted(maps.Keys(q.held))

	return true
}

// next removes up to n messages from the queue and returns them. They stay held until they
// are settled.
func (q *sequencer) next(n int) []delivery {
	n = min(n, len(q.queue))
	batch := make([]delivery, n)
	for i, stream := range q.queue[:n] {
		batch[i] = q.held[stream]
	}
	q.queue = q.queue[n:]

	return batch
}

// settle notes that messages are settled and will be acknowledged.
func (q *sequencer) settle(batch []delivery) {
	for _, d := range batch {
		delete(q.held, d.stream)
		q.settled[d.stream] = struct{}{}
	}
}

// prune forgets settled messages up to the consumer's floor, because they won't be
// delivered again.
func (q *sequencer) prune(floor uint64) {
	maps.DeleteFunc(q.settled, func(stream uint64, _ struct{}) bool { return stream <= floor })
}

// unsettled returns all messages that aren't settled, in the order of the stream.
func (q *sequencer) unsettled() []delivery {
	all := make([]delivery, 0, len(q.held))
	for _, stream := range slices.Sorted(maps.Keys(q.held)) {
		all = append(all, q.held[stream])
	}

	return all
}
