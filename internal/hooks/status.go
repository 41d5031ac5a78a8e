package hooks

import "time"

// State is the state of a hook on a node.
type State int

const (
	// Starting means that the node isn't ready to send yet.
	Starting State = iota
	// Standby means that another node sends.
	Standby
	// Sending means that the node sends, and that the last attempt succeeded.
	Sending
	// Failing means that the node sends, and that the last attempt failed.
	Failing
)

// Status is the status of a hook on a node.
type Status struct {
	// URL is the name of the hook; see [Hook.Name].
	URL    string
	Events []string
	Delay  time.Duration
	State  State

	// Pending is the number of events, and of names in a snapshot, that wait to be sent.
	Pending int
	// FailingSince is the first of the attempts that have failed in a row. It is zero
	// unless the state is Failing.
	FailingSince time.Time

	// These count since the node has had the hook: events and snapshots that the receiver
	// has accepted; events that were dropped because too many were waiting; attempts that
	// were accepted, answered with a request for a snapshot, or failed; and attempts that
	// repeated a failed one.
	Sent, Snapshots, Dropped, Accepted, Resyncs, Failed, Retried int64

	// LastSuccess and LastFailure are the times of the last attempts that didn't fail or
	// failed, or zero. LastError is the error of the latter.
	LastSuccess, LastFailure time.Time
	LastError                string
}

// Status returns the status of each hook, in the order of the settings.
func (m *Manager) Status() []Status {
	workers := m.all()
	all := make([]Status, 0, len(workers))
	for _, w := range workers {
		all = append(all, w.status())
	}
	return all
}

func (w *worker) status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Status{
		URL: w.name, Events: w.hook.Events, Delay: w.hook.Delay,
		Pending: w.outbox.pending(), FailingSince: w.outage,
		Sent: w.stats.sent, Snapshots: w.stats.snapshots, Dropped: w.stats.dropped,
		Accepted: w.stats.accepted, Resyncs: w.stats.resyncs, Failed: w.stats.failed, Retried: w.stats.retried,
		LastSuccess: w.stats.lastSuccess, LastFailure: w.stats.lastFailure, LastError: w.stats.lastError,
	}
	switch {
	case w.outbox.phase != stopped && !w.outage.IsZero():
		s.State = Failing
	case w.outbox.phase != stopped:
		s.State = Sending
	case w.ready:
		s.State = Standby
	}
	return s
}
