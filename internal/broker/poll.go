package broker

import (
	"errors"
	"slices"
	"time"
)

// Poll is a request for the events since a position. If there are none, it may wait for
// the first one.
//
// A poll that waits is a stream: it counts as a connection, and as a recipient of the
// events that it waits for. Its sink gets the response in one piece, and is closed with
// the reason [Answered]. Whenever the broker would close a stream, it answers the poll
// with what it has, unless the client is gone or too slow.
type Poll struct {
	stream *Stream
	wait   time.Duration
	cursor position
	ids    *idFormat // of the log that the cursor belongs to
}

// Batch is the answer to a poll.
type Batch struct {
	// Events are the next events, at most replayEvents and about replayBytes.
	Events []Polled
	// Position is the id to poll with next.
	Position string
	// Reset precedes the events; nil if none are missing.
	Reset *Reset
	// Reason is Answered, or the reason why the broker stopped waiting.
	Reason Reason
}

// Polled is an event in the form in which polls receive it.
type Polled struct {
	// ID is the event's id. The end of a topic has none.
	ID string
	// Event and Data are what streams get, with LF for each line break.
	Event, Data string
	// Audience is whom the event was published to. The end of a topic has that topic.
	Audience Audience
	// Topics are the topics that the event was published to and the poll subscribes to,
	// if there are several. The first of them is the one in Audience.
	Topics []string

	at int64 // when the event was published, in Unix nanoseconds; 0 for the end of a topic
}

// Time returns when the event was published, in the form that envelopes have. It is
// empty for the end of a topic, which no envelope contains.
func (p *Polled) Time() string {
	if p.at == 0 {
		return ""
	}
	return timeText(p.at)
}

// Reset reports that events after a client's position are missing.
type Reset struct {
	// Reason is ResetExpired or ResetUnknown.
	Reason string
	// LastEventID is the position that the client gave; empty if it gave a time.
	LastEventID string
}

// Encoder encodes the response to a poll. The shard of the poll calls Encode, at most
// once and before it writes to the sink.
type Encoder interface {
	Encode(b Batch) []byte
}

// NewPoll prepares a poll that waits for at most the given time, or not at all if it is
// 0.
func (b *Broker) NewPoll(sub Subscription, wait time.Duration) *Poll {
	st := b.NewStream(sub)
	if st.resume == nil {
		st.resume = new(resumption)
	}
	st.resume.counted = true // only as a poll
	return &Poll{stream: st, wait: wait}
}

// Read returns the events since the poll's position, or at the current end if it has
// none. The retained values precede them, unless the poll resumes. Read reports whether
// the poll has been answered: there are events or a reset, or the poll doesn't wait. It
// returns ErrClosed once the broker is closing, ErrSuspended while it accepts no
// streams, and ErrTooLarge if the retained values are too large for one response.
func (p *Poll) Read() (batch Batch, answered bool, err error) {
	st := p.stream
	b := st.shard.broker
	b.prepareStart(st)

	r := reading{poll: p}
	for more := true; more; {
		if more, err = b.readPoll(&r); err != nil {
			return Batch{}, false, err
		}
	}

	batch = Batch{Events: append(valuesOf(r.values, st), decodeAll(r.events, st)...), Position: p.ids.of(p.cursor.seq), Reset: r.reset, Reason: Answered}
	if r.ended {
		batch.addEnd(st.topics.names[0])
	}
	if answered = p.wait == 0 || !batch.isEmpty(); answered {
		st.shard.counters.delivered.Add(int64(len(r.values) + len(r.events)))
		b.polls.count(&batch)
	}
	return batch, answered, nil
}

// Stream returns the stream with which a poll waits if Read hasn't answered it. It must
// be started with [Poll.Start].
func (p *Poll) Stream() *Stream { return p.stream }

// Start begins the wait of a poll that Read hasn't answered. It is like [Stream.Start],
// except that the sink gets nothing but the response, which enc encodes.
func (p *Poll) Start(sink Sink, enc Encoder) error {
	st := p.stream
	st.cursor, st.catchingUp = p.cursor.seq, false
	st.sink = &poll{Sink: sink, encoder: enc, ids: p.ids, generation: p.cursor.generation, wait: p.wait, index: -1}
	_, st.flushes = sink.(Flusher)
	return st.shard.broker.join(st, nil)
}

// isEmpty reports whether a poll that gets the batch may wait.
func (b *Batch) isEmpty() bool { return len(b.Events) == 0 && b.Reset == nil }

// addEnd adds the event that reports the end of the only topic, unless the batch has it.
func (b *Batch) addEnd(topic string) {
	if !slices.ContainsFunc(b.Events, func(e Polled) bool { return e.Event == endType }) {
		b.Events = append(b.Events, endEvent(topic, "").polled(ToTopic(topic)))
	}
}

// of returns the id of a position in the log.
func (f *idFormat) of(seq uint64) string { return string(appendID(nil, f.epoch, seq)) }

// decodeAll decodes events for st. The ends of topics follow their final event.
func decodeAll(events []*event, st *Stream) []Polled {
	var all []Polled
	for _, e := range events {
		all = append(all, e.polledBy(st))
		if e.end() == nil {
			continue
		}
		for topic, end := range e.endsFor(st) {
			all = append(all, end.polled(topic))
		}
	}
	return all
}

// valuesOf decodes retained values for st.
func valuesOf(events []*event, st *Stream) (all []Polled) {
	for _, e := range events {
		all = append(all, e.polledBy(st))
	}
	return all
}

// polledBy returns a published event in the form in which a poll receives it.
func (e *event) polledBy(st *Stream) Polled {
	p := e.polled(e.audience)
	if topics := e.topicsFor(st); topics != nil {
		p.Audience, p.Topics = ToTopic(topics[0]), topics
	}
	return p
}

// polled returns an event to the given audience in the form in which polls receive it.
func (e *event) polled(to Audience) Polled {
	p := Polled{Audience: to, at: e.at}
	p.ID, p.Event, p.Data = e.fields()
	return p
}

// reading is the state of Poll.Read.
type reading struct {
	poll   *Poll
	values []*event // retained ones
	left   startValues
	events []*event
	reset  *Reset
	begun  bool
	live   bool // no events follow those that were read
	ended  bool // the only topic has ended, and its final event has been read
}

// readPoll reads as much of the history as may be read while the lock is held, and
// reports whether it must be called again.
func (b *Broker) readPoll(r *reading) (more bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return false, ErrClosed
	case b.suspended:
		return false, ErrSuspended
	}

	p, st := r.poll, r.poll.stream
	if r.begun && p.cursor.generation != b.generation {
		return false, nil // the client learns from its next poll that another log has begun
	}
	var live bool
	switch from := st.resume; {
	case !r.left.all && r.begun:
		if err := b.readValuesFor(r); err != nil {
			return false, err
		}
		live = r.live
	case r.begun:
		live = b.readMore(r)
	case from.earlier != nil:
		b.startEarlier(st)
		r.left = startValues{last: orderOf(st.cursor)}
		r.events, st.cursor, live = from.earlier.first, from.earlier.cursor, !st.catchingUp
		from.earlier.first = nil
		if from.reset != "" {
			r.reset = &Reset{Reason: from.reset}
		}
	case from.lastID != "":
		live = b.readAfter(r)
		r.left = startValues{last: orderOf(st.cursor), all: r.reset == nil}
	default:
		st.cursor, live = b.seq, true
		r.left = startValues{last: orderOf(st.cursor)}
	}

	r.begun, r.live = true, live
	p.cursor, p.ids = position{b.generation, st.cursor}, b.ids.Load()
	r.ended = live && b.hasEnded(st)
	return !r.left.all || !live && len(r.events) < replayEvents && sizeOf(r.events) < replayBytes, nil
}

// ErrTooLarge means that the retained values for a poll are larger than
// Config.QueueBytes. A stream gets them one after another.
var ErrTooLarge = errors.New("too many retained values for one response")

// readValuesFor reads the next retained values for a poll. The caller holds b.mu.
func (b *Broker) readValuesFor(r *reading) error {
	r.values = append(r.values, b.nextValues(r.poll.stream, &r.left, nil)...)
	if sizeOf(r.values) > b.cfg.Load().QueueBytes {
		return ErrTooLarge
	}
	return nil
}

// readAfter reads the first events after the poll's last event id, and reports whether
// there are no more. The caller holds b.mu.
func (b *Broker) readAfter(r *reading) (live bool) {
	st := r.poll.stream
	seq, reset := b.locate(st)
	if reset != "" {
		r.reset = &Reset{reset, st.resume.lastID}
		st.cursor = b.seq
		return true
	}
	st.cursor = seq
	return b.readMore(r)
}

// readMore reads the next events, and reports whether there are no more. The caller
// holds b.mu.
func (b *Broker) readMore(r *reading) (live bool) {
	st := r.poll.stream
	events, cursor, live, lost := b.nextEvents(st, r.events)
	switch {
	case lost && len(events) > 0:
		// The next poll gets the reset, after these events.
		r.events, st.cursor = events, max(st.cursor, events[len(events)-1].seq)
		return true
	case lost:
		r.reset = &Reset{ResetExpired, st.resume.lastID}
	}
	r.events, st.cursor = events, cursor
	return live
}

// sizeOf returns the number of bytes that events take on a stream.
func sizeOf(events []*event) (size int) {
	for _, e := range events {
		size += len(e.frame.chunk)
	}
	return size
}
