package broker

import (
	"time"

	"github.com/peald/peald/internal/eventstream"
)

// Tap sees messages as they are published. It is no stream: it counts among no
// recipients, and what it is too slow for it misses.
type Tap struct {
	// C has a token when there is something to take, or the broker is closing.
	C <-chan struct{}
	c chan struct{}

	broker *Broker
	of     Audience // nobody: all messages

	// What follows is guarded by Broker.mu.

	waiting []*event
	bytes   int    // of waiting
	cursor  uint64 // a tap that is behind has seen the log up to here
	behind  bool   // what follows cursor comes from the log
	gap     Gap
}

// Tapped is a message that was published.
type Tapped struct {
	ID       string
	Audience Audience
	// Event and Data are what receivers get, with LF for each line break.
	Event, Data string
	// Recipients counts the streams that it was queued to.
	Recipients int
	At         time.Time
}

// Gap says that a tap has missed messages.
type Gap struct {
	// Reason is "overflow", "expired" or "unknown", as in a peald.reset; empty
	// where nothing is missing.
	Reason string
	// Messages counts those that are missing, 0 where that can't be known.
	Messages int
}

// TapBatch is what a tap has seen since it was last asked.
type TapBatch struct {
	// Gap precedes the messages.
	Gap      Gap
	Messages []Tapped
	// Position is the id up to which the tap has told all.
	Position string
}

const (
	// tapEvents and tapBytes bound what waits for a tap.
	tapEvents = 4096
	tapBytes  = 4 << 20
)

// Tap begins a tap, whose Close must be called, of the messages for one
// audience, where the topic may be a pattern; or of all messages, for the zero
// Audience. It begins behind the event with the id lastID, as far as the log
// goes back, or now where that is empty.
func (b *Broker) Tap(of Audience, lastID string) (*Tap, error) {
	var err error
	switch of.kind {
	case oneUser:
		err = ValidUserID(of.name)
	case oneTopic:
		err = ValidPattern(of.name)
	default:
	}
	if err == nil && lastID != "" {
		err = ValidEventID(lastID)
	}
	if err != nil {
		return nil, err
	}
	c := make(chan struct{}, 1)
	t := &Tap{C: c, c: c, broker: b, of: of}
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

// begin sets the position that t starts from. The caller has Broker.mu.
func (t *Tap) begin(lastID string) {
	switch seq, reset := t.broker.find(lastID); reset {
	case "":
		t.cursor, t.behind = seq, true
	case ResetExpired:
		t.behind = true // from the log's beginning on, as catchUp finds
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

// Take returns what the tap has seen since the last call, or ErrClosed once the
// broker is closing and all has been taken.
func (t *Tap) Take() (TapBatch, error) {
	events, batch, err := t.take()
	if len(events) > 0 {
		batch.Messages = make([]Tapped, 0, len(events))
		for _, e := range events {
			batch.Messages = append(batch.Messages, e.tapped())
		}
	}
	return batch, err
}

func (t *Tap) take() (events []*event, batch TapBatch, err error) {
	b := t.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	position := b.seq
	if t.behind {
		t.catchUp()
		if t.behind {
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

// catchUp takes the next messages out of the log, as much as one look into it
// may. The caller has Broker.mu.
func (t *Tap) catchUp() {
	h := &t.broker.history
	if t.cursor+1 < h.first {
		t.gap.Reason = ResetExpired
		t.cursor = h.first - 1
	}
	all := h.all.all()[h.all.after(t.cursor):]
	for i, e := range all {
		if i == replayWalk || t.bytes >= replayBytes || len(t.waiting) == replayEvents {
			return
		}
		t.cursor = e.seq
		if t.wants(e.audience) {
			t.waiting = append(t.waiting, e)
			t.bytes += len(e.frame.chunk)
		}
	}
	t.behind = false
}

func (t *Tap) wants(a Audience) bool {
	if t.of.kind == oneTopic && a.kind == oneTopic {
		return Covers(t.of.name, a.name)
	}
	return t.of.kind == nobody || t.of == a
}

func (t *Tap) wake() {
	select {
	case t.c <- struct{}{}:
	default:
	}
}

// tapped tells the taps of e. The caller has b.mu.
func (b *Broker) tapped(e *event) {
	for t := range b.taps {
		if t.behind || !t.wants(e.audience) {
			continue
		}
		// Who reads too slowly gets what is newest.
		if len(t.waiting) == tapEvents || t.bytes+len(e.frame.chunk) > tapBytes && len(t.waiting) > 0 {
			t.gap.Reason = "overflow"
			t.gap.Messages += len(t.waiting)
			clear(t.waiting)
			t.waiting, t.bytes = t.waiting[:0], 0
		}
		t.waiting = append(t.waiting, e)
		t.bytes += len(e.frame.chunk)
		if len(t.waiting) == 1 {
			t.wake()
		}
	}
}

// tapped is the message again that e was made of.
func (e *event) tapped() Tapped {
	m := Tapped{Audience: e.audience, Recipients: int(e.recipients), At: time.Unix(0, e.at)}
	decoder := eventstream.Decoder{OnEvent: func(d eventstream.Event) {
		m.ID, m.Event, m.Data = string(d.ID), string(d.Type), string(d.Data)
	}}
	_, _ = decoder.Write(e.frame.block())
	return m
}
