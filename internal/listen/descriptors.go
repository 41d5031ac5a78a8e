package listen

import "fmt"

const (
	ownDescriptors     = 32  // standard streams, listeners, the runtime's poller
	controlDescriptors = 256 // control-plane connections, which browsers can't use up
	controlShare       = 4   // the control plane gets at most a quarter of all descriptors

	// Connections without a stream get a sixteenth of all descriptors, within
	// these limits.
	idleShare = 16
	minIdle   = 16
	maxIdle   = 1024
)

// Budget describes how a process's file descriptors are divided up.
type Budget struct {
	Limit   int // descriptors of the process
	Streams int // connections that hold a stream
	Idle    int // browsers' connections that don't hold a stream yet, or are about to be rejected
}

// NewBudget raises the process's file descriptor limit as far as the system allows, and
// divides up the descriptors. It returns an error if none are left for streams.
func NewBudget() (Budget, error) {
	limit, err := raiseDescriptorLimit()
	if err != nil {
		return Budget{}, err
	}

	b := budgetOf(limit)
	if b.Streams == 0 {
		return Budget{}, fmt.Errorf("the limit of %d file descriptors leaves none for streams: raise it (ulimit -n)", limit)
	}
	return b, nil
}

// budgetOf divides up limit descriptors. A connection without a stream needs a
// descriptor too: otherwise the client couldn't be asked to retry later.
func budgetOf(limit int) Budget {
	control := min(controlDescriptors, limit/controlShare)
	idle := min(max(limit/idleShare, minIdle), maxIdle)

	return Budget{
		Limit:   limit,
		Streams: max(limit-ownDescriptors-control-idle, 0),
		Idle:    idle,
	}
}

// WithStreams returns the budget for n streams, which must not exceed
// b.Streams. Connections without a stream may use the other descriptors.
func (b Budget) WithStreams(n int) Budget {
	b.Idle += b.Streams - n
	b.Streams = n

	return b
}

// Connections returns how many descriptors browsers' connections may use, with
// or without a stream.
func (b Budget) Connections() int { return b.Streams + b.Idle }
