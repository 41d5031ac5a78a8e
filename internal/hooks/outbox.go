package hooks

import (
	"crypto/rand"
	"time"
)

// maxPending limits the number of events that wait to be sent.
const maxPending = 1 << 16

// event is the arrival or departure of a key.
type event struct {
	key     key
	present bool
	at      time.Time // when the first stream was opened or the last one closed
	due     time.Time // when the event could be sent at the earliest
}

// phase is the state of an outbox:
//
//	stopped ──► snapshotDue ──► snapshotting ──► live
//
// Any phase may become snapshotDue or stopped.
type phase uint8

const (
	stopped      phase = iota // another node sends
	snapshotDue               // the next request is the first page of a snapshot
	snapshotting              // a snapshot is being sent
	live                      // events are being sent
)

// outbox orders a hook's events and puts them into batches.
type outbox struct {
	phase    phase
	events   []event // that wait to be sent, in order; empty unless phase is snapshotting or live
	names    []key   // of the snapshot, that wait to be sent
	again    bool    // events were dropped during the snapshot, so another one must follow
	snapshot string  // the id of the last snapshot
	sequence int     // the number of the last batch that the receiver has accepted
	version  int     // changes when the batch in flight becomes obsolete
}

// batch is the content of a request.
type batch struct {
	version  int
	id       string
	sequence int
	body     []byte
	events   []event // empty for a page of a snapshot, and if there was nothing else to send
	names    int     // on a page of a snapshot
	last     bool    // it is the last page of a snapshot
}

// start starts sending, unless it has started already.
func (o *outbox) start() {
	if o.phase == stopped {
		o.requireSnapshot()
	}
}

// stop stops sending.
func (o *outbox) stop() {
	if o.phase == stopped {
		return
	}
	o.requireSnapshot()
	o.phase = stopped
}

// requireSnapshot drops everything that waits, and makes a snapshot the next thing to
// send.
func (o *outbox) requireSnapshot() {
	*o = outbox{phase: snapshotDue, version: o.version + 1}
}

// add adds an event. It returns the number of events that were dropped because too many
// are waiting. If it isn't 0, a snapshot replaces them.
func (o *outbox) add(e event) (dropped int) {
	if o.phase != snapshotting && o.phase != live || o.again {
		return 0 // a snapshot will include it
	}
	if len(o.events) < maxPending {
		o.events = append(o.events, e)
		return 0
	}

	dropped = len(o.events) + 1
	o.events = nil
	if o.phase == live {
		o.requireSnapshot()
	} else {
		// Complete the snapshot first. Otherwise a slow receiver might never get one.
		o.again = true
	}
	return dropped
}

// pending returns the number of events and names that wait to be sent.
func (o *outbox) pending() int { return len(o.events) + len(o.names) }

// next returns the next batch, or nil if there is nothing to send. Present returns the
// keys that are present. If nothing has been sent for a while, idle is true, and next
// returns an empty batch of events.
func (o *outbox) next(wanted Hook, present func() []key, now time.Time, idle bool) *batch {
	if o.phase == snapshotDue {
		o.phase, o.names = snapshotting, present()
		o.snapshot = rand.Text()
	}

	b := &batch{version: o.version, sequence: o.sequence + 1}
	b.id = messageID(o.snapshot, b.sequence)
	switch {
	case o.phase == snapshotting:
		b.encodePage(o.snapshot, wanted, o.names, now)
	case o.phase == live && (len(o.events) > 0 || idle):
		b.encodeEvents(o.snapshot, o.events, now)
	default:
		return nil
	}
	return b
}

// accepted removes a batch that the receiver has accepted. It reports whether the batch
// wasn't obsolete.
func (o *outbox) accepted(b *batch) bool {
	if b.version != o.version {
		return false
	}
	o.sequence = b.sequence
	o.names = o.names[b.names:]
	o.events = o.events[len(b.events):]
	if len(o.events) == 0 {
		o.events = nil // release the memory
	}

	if b.last {
		o.phase, o.names = live, nil
		if o.again {
			o.requireSnapshot()
		}
	}
	return true
}
