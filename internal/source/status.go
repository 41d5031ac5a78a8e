package source

import (
	"sync"
	"time"
)

// State is what a source is doing.
type State string

// The states of a source.
const (
	// StateConnecting means that the source isn't connected yet.
	StateConnecting State = "connecting"
	// StateStandby means that another node reads the source.
	StateStandby State = "standby"
	// StateActive means that this node reads the source, or some of its partitions.
	StateActive State = "active"
	// StateWaiting means that messages can't be published at the moment.
	StateWaiting State = "waiting"
	// StateFailed means that the source has failed and will be tried again.
	StateFailed State = "failed"
)

// Status describes a source on this node.
type Status struct {
	Name, Kind string
	State      State
	// Lag is what the Reader last reported. Lag.Records is negative if it is unknown, as
	// on a node that doesn't read the source.
	Lag Lag
	// Published and Rejected count records since the daemon started.
	Published, Rejected int64
	// Failures counts how often the Reader has failed.
	Failures int64
	// LastError is the last failure or rejection; empty if there was none.
	LastError string
	// LastErrorAt is the time of LastError.
	LastErrorAt time.Time
}

// status is a Status that the Sink and the Manager update.
type status struct {
	mu sync.Mutex
	Status
	before State // the state that StateWaiting has replaced
}

// set sets the state.
func (s *status) set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.State = state
	if state != StateActive && state != StateWaiting {
		s.Lag = Lag{Records: -1}
	}
}

// report records the lag.
func (s *status) report(l Lag) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.Lag = l
}

// waiting records that messages can't be published because of err.
func (s *status) waiting(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.State != StateWaiting {
		s.before, s.State = s.State, StateWaiting
	}
	s.note(err)
}

// published ends the state that waiting began.
func (s *status) published() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.State == StateWaiting {
		s.State = s.before
	}
}

// failed records a failure of the Reader.
func (s *status) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.State = StateFailed
	s.Lag = Lag{Records: -1}
	s.Failures++
	s.note(err)
}

// count counts settled records.
func (s *status) count(settled Settled) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.Rejected += int64(len(settled.Rejected))
	s.Published += int64(settled.Count - len(settled.Rejected))
	if n := len(settled.Rejected); n > 0 {
		s.note(settled.Rejected[n-1].Err)
	}
}

// note records an error. The caller must hold s.mu.
func (s *status) note(err error) { s.LastError, s.LastErrorAt = err.Error(), time.Now() }

// read returns a copy.
func (s *status) read() Status {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.Status
}
