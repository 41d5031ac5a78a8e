package broker

import "fmt"

// phase is the stage of a stream's life. The legal transitions are:
//
//	new       → open, abandoned
//	open      → draining, stopping, closed
//	draining  → drained, closed
//	drained   → closed
//	stopping  → closed
//	abandoned → closed
//
// The stream's shard makes every transition, by calling [Stream.enter].
type phase uint8

const (
	// phaseNew is the phase of a stream that its shard hasn't opened yet.
	phaseNew phase = iota
	// phaseAbandoned is the phase of a stream whose client hung up before the shard
	// opened it. The shard closes it instead of opening it.
	phaseAbandoned
	// phaseOpen is the phase of a stream that gets new events.
	phaseOpen
	// phaseDraining is the phase of a stream that a drain is closing. The broker no
	// longer counts it, but events that were published while it was counted are
	// still in the shard's mailbox.
	phaseDraining
	// phaseDrained is the phase of a stream that a drain is closing and whose
	// events are all in its queue or in the history. The stream is closed when they
	// and its last block have been written.
	phaseDrained
	// phaseStopping is like phaseDrained, but for a stream that is being closed
	// because the broker is closing, because the stream's topic has ended, or because
	// it is a poll that is being answered. The broker counts the stream until it is
	// closed.
	phaseStopping
	// phaseClosed is the phase of a stream whose sink has been closed.
	phaseClosed
)

// canEnter reports whether a transition from p to next is legal.
func (p phase) canEnter(next phase) bool {
	switch p {
	case phaseNew:
		return next == phaseOpen || next == phaseAbandoned
	case phaseOpen:
		return next == phaseDraining || next == phaseStopping || next == phaseClosed
	case phaseDraining:
		return next == phaseDrained || next == phaseClosed
	case phaseAbandoned, phaseDrained, phaseStopping:
		return next == phaseClosed
	case phaseClosed:
	}
	return false
}

// counted reports whether the broker counts a stream that has joined and isn't
// closed.
func (p phase) counted() bool { return p != phaseDraining && p != phaseDrained }

// closing reports whether a stream gets no new events and is closed when its
// queue has been written.
func (p phase) closing() bool { return p == phaseDrained || p == phaseStopping }

// String returns the phase's name.
func (p phase) String() string {
	return [...]string{"new", "abandoned", "open", "draining", "drained", "stopping", "closed"}[p]
}

// enter changes the stream's phase. It panics if the transition is not legal.
func (st *Stream) enter(next phase) {
	if !st.phase.canEnter(next) {
		panic(fmt.Sprintf("broker: stream can't change from %v to %v", st.phase, next))
	}
	st.phase = next
}
