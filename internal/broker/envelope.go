package broker

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peald/peald/internal/eventstream"
)

// envelope holds the event that streams with [Opening.Envelope] get in place of
// another. Its data is a JSON object; see envelopeText.
type envelope struct {
	once  sync.Once // sets the other fields
	event event
	size  atomic.Int32 // of the event's frame, in bytes
}

// envelopeOverhead is the approximate memory, in bytes, that an envelope uses besides its
// frame.
const envelopeOverhead = 200

// envelopeText is the data of an event in an envelope.
type envelopeText struct {
	Topic     string   `json:"topic,omitempty"`
	Topics    []string `json:"topics,omitempty"`
	User      bool     `json:"user,omitempty"`
	Broadcast bool     `json:"broadcast,omitempty"`
	Event     string   `json:"event"`
	Data      string   `json:"data"`
	Time      string   `json:"time"`
}

// jointEnvelopes holds the events with envelopes for one message for several topics, by
// the topics that they name. Streams that subscribe to the same topics share them, if they
// need them in the same turn of their shard.
type jointEnvelopes struct {
	siblings *siblings
	byTopics map[string]*event
}

// release drops the envelopes at the end of a turn.
func (j *jointEnvelopes) release() {
	if j.siblings != nil {
		*j = jointEnvelopes{}
	}
}

// envelop returns the event with an envelope for e, which must have been published. An
// envelope names several topics only for a stream that subscribes to them, since others
// may not be allowed to know of them.
func (s *shard) envelop(st *Stream, e *event) *event {
	topics := e.topicsFor(st)
	if topics == nil {
		return s.envelopAlone(e)
	}

	joint := &s.envelopes
	if of := e.siblings(); joint.siblings != of {
		*joint = jointEnvelopes{of, make(map[string]*event)}
	}
	key := strings.Join(topics, "\x00")
	in := joint.byTopics[key]
	if in == nil {
		in = &event{seq: e.seq, at: e.at, conflateKey: e.conflateKey, policy: e.policy, frame: s.envelopeFrame(e, topics)}
		joint.byTopics[key] = in
	}
	return in
}

// envelopAlone returns the event with an envelope for e that names only the topic of e.
// Shards that need it at the same time wait until the first of them has encoded it.
func (s *shard) envelopAlone(e *event) *event {
	v := e.envelope.Load()
	for v == nil {
		e.envelope.CompareAndSwap(nil, new(envelope))
		v = e.envelope.Load()
	}

	v.once.Do(func() {
		in := &v.event
		in.seq, in.at, in.conflateKey, in.policy = e.seq, e.at, e.conflateKey, e.policy
		in.frame = s.envelopeFrame(e, nil)
		v.size.Store(int32(len(in.frame.chunk)))
		if !s.broker.keepCopy(e, len(in.frame.chunk)+envelopeOverhead) {
			e.envelope.CompareAndSwap(v, nil)
		}
	})
	return &v.event
}

// envelopeFrame returns the frame of e with an envelope, which names the given topics if
// there are several.
func (s *shard) envelopeFrame(e *event, topics []string) frame {
	id, typ, data := e.fields()
	text := envelopeText{Topics: topics, Event: typ, Data: data, Time: timeText(e.at)}
	switch e.audience.kind {
	case oneTopic:
		text.Topic = e.audience.name
	case oneUser:
		text.User = true
	default:
		text.Broadcast = true
	}
	if topics != nil {
		text.Topic = topics[0] // the history may hold e for another one only
	}

	s.scratch.Reset()
	encoder := json.NewEncoder(&s.scratch)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic(err) // strings can always be encoded
	}
	line := bytes.TrimSuffix(s.scratch.Bytes(), []byte("\n"))
	s.trimScratch()

	buf := make([]byte, chunkRoom, chunkRoom+len("id: \n")+len(id)+eventstream.FieldsSize(typ, "")+len(line)+len(chunkEnd))
	return sealFrame(eventstream.AppendLine(buf, id, typ, line), chunkRoom)
}

// timeText returns a time, which is given in Unix nanoseconds, as protobuf writes it in
// JSON: in UTC, with 0, 3, 6 or 9 digits after the decimal point.
func timeText(at int64) string {
	layout := "2006-01-02T15:04:05.000000000Z"
	switch {
	case at%int64(time.Second) == 0:
		layout = "2006-01-02T15:04:05Z"
	case at%int64(time.Millisecond) == 0:
		layout = "2006-01-02T15:04:05.000Z"
	case at%int64(time.Microsecond) == 0:
		layout = "2006-01-02T15:04:05.000000Z"
	}
	return time.Unix(0, at).UTC().Format(layout)
}

// prepare returns the event that a stream gets for e. If the stream's form includes gzip,
// it is packed.
func (s *shard) prepare(st *Stream, e *event) *event {
	if !st.queue.form.has(gzipped | enveloped) {
		return e
	}
	return s.encode(st, e)
}

// encode is prepare for a form that needs another encoding. It is separate so that prepare
// can be inlined.
func (s *shard) encode(st *Stream, e *event) *event {
	sent, f := e, st.queue.form
	if f.has(enveloped) && e.seq != 0 {
		sent = s.envelop(st, e)
	}
	if f.has(gzipped) {
		s.pack(sent, e)
	}
	return sent
}

// keepCopy counts n more bytes for an encoding of e that may be dropped and made again. It
// reports whether there is room to keep it.
func (b *Broker) keepCopy(e *event, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.retained.grow(e, n) {
		b.retained.grow(e, -n)
		return false
	}
	b.history.grow(e, n, b.logNow())
	return true
}

// countCopy counts n more bytes for an encoding of e.
func (b *Broker) countCopy(e *event, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retained.grow(e, n)
	b.history.grow(e, n, b.logNow())
}

// countShared counts n more bytes for an encoding that siblings share.
func (b *Broker) countShared(s *siblings, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.history.growShared(s, n, b.logNow())
}

// grow counts n more bytes for other encodings of e. It reports whether those of all
// values fit within the limit, which is that of the values themselves. It does nothing
// if e isn't a value.
func (r *retained) grow(e *event, n int) (fits bool) {
	if len(r.byKey) == 0 {
		return true
	}
	v := r.byKey[retainedKey{e.audience, e.conflateKey}]
	if v == nil || v.event != e {
		return true
	}
	v.copies += int32(n)
	r.copies += n
	return r.copies <= r.limits.MaxBytes
}

// keeps reports whether sent is e or an encoding of it that is kept.
func (e *event) keeps(sent *event) bool {
	if sent == e {
		return true
	}
	v := e.envelope.Load()
	return v != nil && sent == &v.event
}

// largest returns the size, in bytes, of the largest uncompressed encoding of e.
func (e *event) largest() int {
	if v := e.envelope.Load(); v != nil {
		return max(len(e.frame.chunk), int(v.size.Load()))
	}
	return len(e.frame.chunk)
}
