package broker

import (
	"strings"
	"time"
)

// Tap observes messages as they are published. A tap isn't a stream: it doesn't
// count as a recipient, and it misses messages if it is read too slowly.
type Tap struct {
	// C has a token when there is something to take or the broker is closing.
	C <-chan struct{}
	c chan struct{}

	broker   *Broker
	audience Audience // the zero Audience for all messages

	// The fields below are guarded by Broker.mu.

	waiting    []*event
	bytes      int    // of waiting
	cursor     uint64 // while catching up, the last event read from the history
	catchingUp bool   // events after cursor come from the history
	gap        Gap
}

// Tapped is a message that was published.
type Tapped struct {
	ID string
	// Audience is the message's audience, or the one of several topics that was asked
	// for.
	Audience Audience
	// Topics are all topics of a message for several.
	Topics []string
	// ExcludeUser is the user whose streams don't get the message; empty for none.
	ExcludeUser string
	ConflateKey string
	// Event and Data are what clients get, with LF for each line break.
	Event, Data string
	// Final reports whether it ended its topic.
	Final bool
	// Recipients is the number of streams that it was queued for.
	Recipients int
	At         time.Time
	// Expires holds the end of its time to live; zero if it has none.
	Expires time.Time
}

// Gap reports that a tap has missed messages.
type Gap struct {
	// Reason is "overflow", "expired" or "unknown", as in a peald.reset; empty
	// if nothing is missing.
	Reason string
	// Messages is the number of missing messages; 0 if it is unknown.
	Messages int
}

// TapBatch holds the messages that a tap has observed since the last batch.
type TapBatch struct {
	// Gap precedes the messages.
	Gap      Gap
	Messages []Tapped
	// Position is the id up to which the tap has returned all messages.
	Position string
}

const (
	// tapEvents and tapBytes limit the messages that are waiting for a tap.
	tapEvents = 4096
	tapBytes  = 4 << 20
)

// Tap starts a tap for the messages to one audience, or for all messages if
// audience is the zero Audience. The audience's topic may be a pattern. The tap
// starts after the event with the id lastID, or at the start of the history if it
// doesn't reach back that far, or now if lastID is empty. The caller must call
// Close on the tap.
func (b *Broker) Tap(audience Audience, lastID string) (*Tap, error) {
	var err error
	switch audience.kind {
	case oneUser:
		err = ValidUserID(audience.name)
	case oneTopic:
		err = ValidPattern(audience.name)
	default:
	}
	if err == nil && lastID != "" {
		err = ValidEventID(lastID)
	}
	if err != nil {
		return nil, err
	}

	c := make(chan struct{}, 1)
	t := &Tap{C: c, c: c, broker: b, audience: audience}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if lastID != "" {
		t.begin(lastID)
	}
	b.taps[t] = struct{}{}
	return t, nil
}

// begin sets the position that t starts from. The caller holds Broker.mu.
func (t *Tap) begin(lastID string) {
	switch seq, reset := t.broker.find(lastID); reset {
	case "":
		t.cursor, t.catchingUp = seq, true
	case ResetExpired:
		t.catchingUp = true // from the start of the history; see catchUp
	default:
		t.gap.Reason = reset
	}
	t.wake()
}

// Close ends the tap.
func (t *Tap) Close() {
	t.broker.mu.Lock()
	defer t.broker.mu.Unlock()
	delete(t.broker.taps, t)
}

// Take returns the messages since the last call, or ErrClosed once the broker is
// closing and all messages have been taken.
func (t *Tap) Take() (TapBatch, error) {
	events, batch, err := t.take()
	if len(events) > 0 {
		batch.Messages = make([]Tapped, 0, len(events))
		for _, e := range events {
			batch.Messages = append(batch.Messages, e.decode())
		}
	}
	return batch, err
}

func (t *Tap) take() (events []*event, batch TapBatch, err error) {
	b := t.broker
	b.mu.Lock()
	defer b.mu.Unlock()

	position := b.seq
	if t.catchingUp {
		t.catchUp()
		if t.catchingUp {
			position = t.cursor
			t.wake()
		}
	}

	events, t.waiting, t.bytes = t.waiting, nil, 0
	batch = TapBatch{Gap: t.gap, Position: b.id(position)}
	t.gap = Gap{}
	if b.closed && len(events) == 0 && batch.Gap.Reason == "" {
		err = ErrClosed
	} else if b.closed {
		t.wake()
	}
	return events, batch, err
}

// catchUp reads the next messages from the history, as many as may be read while the
// lock is held. The caller holds Broker.mu.
func (t *Tap) catchUp() {
	h := &t.broker.history
	if t.cursor+1 < h.first {
		t.gap.Reason = ResetExpired
		t.cursor = h.first - 1
	}
	for i, s := range h.all.all()[h.all.after(t.cursor):] {
		full := i >= replayScan || t.bytes >= replayBytes || len(t.waiting) >= replayEvents
		if full && s.seq > t.cursor { // siblings stay together
			return
		}
		t.cursor = s.seq
		switch {
		case s.event == nil && !s.mark(h.first) || !t.wants(s.lane.audience):
		case s.event == nil:
			t.gap.Reason = ResetExpired
		case t.endsWith(s.seq):
		default:
			t.add(s.event)
		}
	}
	t.catchingUp = false
}

// wants reports whether the tap observes messages to the audience.
func (t *Tap) wants(a Audience) bool {
	if t.audience.kind == oneTopic && a.kind == oneTopic {
		return Covers(t.audience.name, a.name)
	}
	return t.audience.kind == nobody || t.audience == a
}

func (t *Tap) wake() {
	select {
	case t.c <- struct{}{}:
	default:
	}
}

// endsWith reports whether the last waiting message has the given sequence number. The
// caller holds Broker.mu.
func (t *Tap) endsWith(seq uint64) bool {
	n := len(t.waiting)
	return n > 0 && t.waiting[n-1].seq == seq
}

// add adds an event to the waiting messages. The caller holds Broker.mu.
func (t *Tap) add(e *event) {
	t.waiting = append(t.waiting, e)
	t.bytes += len(e.frame.chunk)
}

// feedTaps adds e, or one of its siblings, to the taps that observe its audience. The
// caller holds b.mu.
func (b *Broker) feedTaps(e *event) {
	for t := range b.taps {
		observed := t.observed(e)
		if t.catchingUp || observed == nil {
			continue
		}

		// A slow reader loses the oldest messages and gets the newest ones.
		if len(t.waiting) == tapEvents || t.bytes+len(e.frame.chunk) > tapBytes && len(t.waiting) > 0 {
			t.gap.Reason = "overflow"
			t.gap.Messages += len(t.waiting)
			clear(t.waiting)
			t.waiting, t.bytes = t.waiting[:0], 0
		}
		t.add(observed)
		if len(t.waiting) == 1 {
			t.wake()
		}
	}
}

// observed returns the first of e and its siblings that the tap observes; nil if there is
// none. The caller holds Broker.mu.
func (t *Tap) observed(e *event) *event {
	s := e.siblings()
	if s == nil {
		if t.wants(e.audience) {
			return e
		}
		return nil
	}
	for _, sibling := range s.events {
		if t.wants(sibling.audience) {
			return sibling
		}
	}
	return nil
}

// decode returns the message that e was encoded from.
func (e *event) decode() Tapped {
	m := Tapped{Audience: e.audience, ExcludeUser: e.excluded(), ConflateKey: e.conflateKey,
		Recipients: int(e.recipients), Final: e.final, At: time.Unix(0, e.at)}
	if e.expires != 0 {
		m.Expires = time.Unix(0, e.expires)
	}
	if s := e.siblings(); s != nil {
		m.Topics = s.topics
	}
	m.ID, m.Event, m.Data = e.fields()
	return m
}

// fields returns the event's id, type and data, as clients get them. It understands
// only what encodeFields and endEvent write, and is much faster than a general-purpose
// decoder.
func (e *event) fields() (id, typ, data string) {
	rest := strings.TrimSuffix(string(e.frame.block()), "\n\n")
	if line, ok := strings.CutPrefix(rest, "id: "); ok {
		id, rest, _ = strings.Cut(line, "\n")
	}
	if line, ok := strings.CutPrefix(rest, "event: "); ok {
		typ, rest, _ = strings.Cut(line, "\n")
	}
	rest = strings.TrimPrefix(rest, "data: ")
	return id, typ, strings.ReplaceAll(rest, "\ndata: ", "\n")
}
