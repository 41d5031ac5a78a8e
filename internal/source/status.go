package source

import (
	"sync"
	"sync/atomic"
	"time"
)

// State is the state of a source on this node.
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
	// Lag holds the Reader's last report. Lag.Records is negative if it is unknown, as
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

// counts are the counters in a Status. They outlive a change of the source's settings.
type counts struct {
	published, rejected, failures atomic.Int64
}

// settled returns the number of records that have been settled.
func (c *counts) settled() int64 { return c.published.Load() + c.rejected.Load() }

// status is a Status that the Sink and the Manager update.
type status struct {
	counts *counts

	mu     sync.Mutex
	now    Status // without counters
	before State  // the state that StateWaiting has replaced
}

func newStatus(name, kind string, c *counts) *status {
	return &status{counts: c, now: Status{Name: name, Kind: kind, State: StateConnecting, Lag: Lag{Records: -1}}}
}

// set sets the state.
func (s *status) set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.now.State = state
	if state != StateActive && state != StateWaiting {
		s.now.Lag = Lag{Records: -1}
	}
}

// report records the lag.
func (s *status) report(l Lag) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.now.Lag = l
}

// waiting records that messages can't be published because of err.
func (s *status) waiting(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.now.State != StateWaiting {
		s.before, s.now.State = s.now.State, StateWaiting
	}
	s.note(err)
}

// published ends the state that waiting began.
func (s *status) published() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.now.State == StateWaiting {
		s.now.State = s.before
	}
}

// stopped records the state after the Reader has stopped because of err.
func (s *status) stopped(state State, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.now.State, s.now.Lag = state, Lag{Records: -1}
	s.note(err)
}

// count counts settled records.
func (s *status) count(settled Settled) {
	n := len(settled.Rejected)
	s.counts.published.Add(int64(settled.Count - n))
	if n == 0 {
		return
	}
	s.counts.rejected.Add(int64(n))

	s.mu.Lock()
	defer s.mu.Unlock()

	s.note(settled.Rejected[n-1].Err)
}

// note records an error. The caller must hold s.mu.
func (s *status) note(err error) { s.now.LastError, s.now.LastErrorAt = err.Error(), time.Now() }

// read returns a copy.
func (s *status) read() Status {
	s.mu.Lock()
	defer s.mu.Unlock()

	all := s.now
	all.Published, all.Rejected, all.Failures = s.counts.published.Load(), s.counts.rejected.Load(), s.counts.failures.Load()

	return all
}
