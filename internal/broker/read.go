package broker

import (
	"cmp"
	"context"
	"fmt"
	"math"
)

// Read selects messages to one audience.
type Read struct {
	// Audience is the audience whose messages are read. Messages to everyone are read
	// only with [Everyone].
	Audience Audience
	// After is the id of an event that precedes the messages. If it is empty, the
	// messages are read from as far back as the history goes.
	After string
	// Newest reads the newest messages first instead of the oldest.
	Newest bool
	// Retained reads only messages that are retained values, even if they have left
	// the history.
	Retained bool
	// Limit is the maximum number of messages, at least 1.
	Limit int
	// Cursor is the id of the last message on the previous page; empty to read the
	// first page.
	Cursor string
	// Position is the position of the first page; empty to read the first page.
	Position string
}

// ReadPage holds messages that a [Read] selects.
type ReadPage struct {
	Messages []Tapped
	// Position is the position up to which the messages have been read. If the oldest
	// messages come first, and more of them follow, that is the last message. Otherwise
	// it was the end of the history when the first page was read. If messages are read
	// from the history, oldest first, it is the current end of the history.
	Position string
	// More reports whether more messages follow.
	More bool
}

// PositionError is the error for a read from a position that isn't in the history.
type PositionError struct {
	// ID is the id that was given.
	ID string
	// Reason is ResetExpired or ResetUnknown.
	Reason string
	// Oldest is the id of the audience's oldest message in the history; empty if
	// there is none.
	Oldest string
}

func (e *PositionError) Error() string {
	problem := fmt.Sprintf("%q is not an event of this daemon's history; it is from another daemon, or from before a restart", e.ID)
	if e.Reason == ResetExpired {
		problem = fmt.Sprintf("messages after %q have left the history", e.ID)
	}
	if e.Oldest == "" {
		return problem + "; the history has no messages for this audience"
	}
	return fmt.Sprintf("%s; the oldest message for this audience is %q", problem, e.Oldest)
}

// pageBytes limits the encoded messages on a page, apart from the last one, so that
// even with a message of MaxData bytes, a page stays below the size that gRPC clients
// accept (4 MiB).
const pageBytes = 1 << 20

// ReadMessages returns a page of messages. A page can have fewer messages than
// q.Limit even if more follow, since its size in bytes is limited too.
//
// It returns a *PositionError if messages after q.After (or, in ascending order, after
// the previous page) have left the history for any reason other than the end of their
// time to live. It also returns one if these positions aren't from this event log. On a
// replica, it first waits until they have been applied, and returns ErrBehind if that
// takes too long. It returns an *InvalidError for an invalid q, ErrClosed once the
// broker is closing, and ErrSuspended while it accepts no streams.
func (b *Broker) ReadMessages(ctx context.Context, q Read) (ReadPage, error) {
	if err := q.validate(); err != nil {
		return ReadPage{}, err
	}
	if err := b.Await(ctx, cmp.Or(q.Position, q.Cursor, q.After)); err != nil {
		return ReadPage{}, err
	}

	r := reader{Read: q}
	for done := false; !done; {
		var err error
		if done, err = b.readPage(&r); err != nil {
			return ReadPage{}, err
		}
	}

	page := ReadPage{Position: r.position, More: r.more}
	if len(r.events) > 0 {
		page.Messages = make([]Tapped, len(r.events))
	}
	for i, e := range r.events {
		page.Messages[i] = e.decode()
	}
	return page, nil
}

func (q *Read) validate() error {
	if err := q.Audience.validate(); err != nil {
		return err
	}
	if q.Limit < 1 {
		return &InvalidError{"page_size", fmt.Sprintf("is %d; want at least 1", q.Limit)}
	}
	for _, id := range []struct{ field, id string }{{"after_id", q.After}, {"page_token", q.Cursor}, {"page_token", q.Position}} {
		if id.id == "" {
			continue
		}
		if err := validID(id.field, id.id); err != nil {
			return err
		}
	}
	return nil
}

// reader reads one page, a few messages each time it holds the lock.
type reader struct {
	Read

	begun      bool
	generation int
	// The messages are between after and before, both exclusive. For the history, these
	// are sequence numbers; for retained values, they are orders.
	after, before uint64
	checked       bool // messages must not have been evicted since after
	events        []*event
	bytes         int    // of events
	position      string // ReadPage.Position
	more          bool   // ReadPage.More
}

// readPage reads the next messages. It reports whether the page is complete.
func (b *Broker) readPage(r *reader) (done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return false, ErrClosed
	case b.suspended || r.begun && r.generation != b.generation:
		return false, ErrSuspended
	}

	b.history.evict(b.logNow())
	if !r.begun {
		if err := b.beginRead(r); err != nil {
			return false, err
		}
		r.begun, r.generation = true, b.generation
		b.reads[r.Audience.kind]++
	}

	if r.Retained {
		return b.readRetained(r), nil
	}
	if r.checked && b.history.lostAfter(r.Audience, r.after) {
		if len(r.events) > 0 {
			return true, nil // the next page returns the error
		}
		return false, b.positionError(r.Audience, b.id(r.after), ResetExpired)
	}
	return b.readHistory(r), nil
}

// beginRead sets the positions that r starts from. The caller holds b.mu.
func (b *Broker) beginRead(r *reader) error {
	r.after, r.before, r.checked = 0, math.MaxUint64, r.After != ""
	if r.Retained {
		return b.beginRetained(r)
	}

	var err error
	if r.After != "" {
		if r.after, err = b.positionOf(r.Audience, r.After); err != nil {
			return err
		}
	}
	r.position = b.id(b.seq)
	if r.Cursor == "" {
		return nil
	}

	cursor, err := b.positionOf(r.Audience, r.Cursor)
	if err != nil {
		return err
	}
	if r.Newest {
		r.before, r.position = max(cursor, r.after+1), cmp.Or(r.Position, r.position)
	} else {
		r.after, r.checked = cursor, true
	}
	return nil
}

// positionOf returns the sequence number in an id, or a *PositionError if the id isn't
// from the current event log. The caller holds b.mu.
func (b *Broker) positionOf(a Audience, id string) (uint64, error) {
	epoch, seq, _ := parseID(id) // checked by Read.validate
	if epoch != b.ids.Load().epoch || seq > b.end() {
		return 0, b.positionError(a, id, ResetUnknown)
	}
	return seq, nil
}

// positionError returns the error for a read from the given id. The caller holds b.mu.
func (b *Broker) positionError(a Audience, id, reason string) error {
	err := &PositionError{ID: id, Reason: reason}
	if l := b.history.lanes[a]; l != nil && l.len() > 0 {
		err.Oldest = b.id(l.at(0).seq)
	}
	return err
}

// readHistory reads the next messages from the history. It reports whether the page is
// complete. The caller holds b.mu.
func (b *Broker) readHistory(r *reader) (done bool) {
	var events []*event
	if l := b.history.lanes[r.Audience]; l != nil {
		events = l.all()[l.after(r.after):l.after(r.before-1)]
	}

	for size, n := 0, 0; len(events) > 0 && !r.full(); n++ {
		if n == replayEvents || size >= replayBytes {
			return false
		}
		var e *event
		if last := len(events) - 1; r.Newest {
			e, events = events[last], events[:last]
			r.before = e.seq
		} else {
			e, events = events[0], events[1:]
			r.after, r.checked = e.seq, true
		}
		r.add(e)
		size += len(e.frame.chunk)
	}

	r.more = len(events) > 0
	switch {
	case r.Newest:
	case r.more:
		r.position = b.id(r.after)
	default:
		r.position = b.id(max(b.seq, r.after)) // a position may lie between a replica's entries
	}
	return true
}

func (r *reader) add(e *event) {
	r.events = append(r.events, e)
	r.bytes += len(e.frame.chunk)
}

// full reports whether the page has no room for another message.
func (r *reader) full() bool { return len(r.events) == r.Limit || r.bytes >= pageBytes }
