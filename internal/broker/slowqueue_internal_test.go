package broker

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/eventstream"
)

// TestQueueFollowsModel runs random sequences of events and partial writes, with
// each policy for slow consumers, some for topics, in each form. It compares the queue and what has
// been written with a simple model.
func TestQueueFollowsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newQueueModel(rt)
		defer m.broker.Close()
		rt.Repeat(map[string]func(*rapid.T){
			"event":       m.event,
			"mark":        m.mark,
			"reset":       m.reset,
			"write":       m.write,
			"reconfigure": m.reconfigure,
			"":            m.check,
		})
		m.finish(rt)
	})
}

// queueModel holds a stream on a shard that the test runs itself, and what its
// queue should look like.
type queueModel struct {
	broker *Broker
	shard  *shard
	cfg    Config
	stream *Stream
	form   form
	sink   modelSink

	start   uint64 // position of the stream
	seq     uint64 // of the last event
	items   []*event
	offset  int // bytes of items[0] that have been written
	last    uint64
	written []byte // the bytes of all earlier items
	text    []byte // the same without codings
	dropped int
	closed  bool
}

// modelSink accepts a limited number of bytes.
type modelSink struct {
	got    []byte
	room   int
	closed bool
}

func (s *modelSink) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		p = p[:min(len(p), s.room-n)]
		s.got = append(s.got, p...)
		n += len(p)
	}
	s.room -= n
	return n, nil
}

func (s *modelSink) Close(Reason) { s.closed = true }

func newQueueModel(rt *rapid.T) *queueModel {
	m := &queueModel{start: 40, seq: 40, cfg: Config{
		Shards: 1, Heartbeat: 15 * time.Second, Retry: time.Second, WriteTimeout: time.Minute,
		History: History{MaxEvents: 1},
	}}
	m.drawLimits(rt)
	m.broker = New(m.cfg)
	m.broker.mu.Lock()
	m.broker.seq = m.start
	m.broker.mu.Unlock()
	m.shard = newShard(m.broker, 0, latencyBounds())
	m.shard.cfg = &m.cfg
	m.form = form(rapid.IntRange(0, int(chunked|gzipped)).Draw(rt, "form"))

	m.stream = m.broker.NewStream(Subscription{})
	m.stream.shard = m.shard
	opening := Opening{Chunked: m.form.has(chunked), Gzip: m.form.has(gzipped)}
	if err := m.stream.Start(&m.sink, opening); err != nil {
		rt.Fatal(err)
	}
	m.shard.takeMail()
	m.items = slices.Clone(m.stream.queue.events) // the greeting
	m.last = m.start
	return m
}

func (m *queueModel) drawLimits(rt *rapid.T) {
	m.cfg.QueueBytes = rapid.SampledFrom([]int{200, 800, 3000}).Draw(rt, "queue")
	m.cfg.SlowConsumer = rapid.SampledFrom([]SlowPolicy{Disconnect, DropOldest, Conflate}).Draw(rt, "policy")
	m.cfg.Topics = nil
	for _, policy := range rapid.SliceOfN(rapid.SampledFrom([]SlowPolicy{"", Disconnect, DropOldest, Conflate}), 0, 3).Draw(rt, "topics") {
		m.cfg.Topics = append(m.cfg.Topics, TopicPolicy{SlowConsumer: policy})
	}
}

func (m *queueModel) reconfigure(rt *rapid.T) { m.drawLimits(rt) }

// size returns the number of bytes that e takes on the connection.
func (m *queueModel) size(e *event) int {
	m.shard.prepare(m.stream, e)
	return len(e.in(m.form).bytes(m.form))
}

// queued returns the number of bytes in the queue.
func (m *queueModel) queued() int {
	n := -m.offset
	for _, e := range m.items {
		n += m.size(e)
	}
	return n
}

// event delivers an event. Some are larger than the queue, and some become smaller
// in a gzip body.
func (m *queueModel) event(rt *rapid.T) {
	if m.closed {
		rt.Skip("the stream is closed")
	}

	size := rapid.OneOf(rapid.IntRange(1, 80), rapid.IntRange(350, 1000), rapid.IntRange(3000, 5000)).Draw(rt, "size")
	data := strings.Repeat("x", size)
	if rapid.Bool().Draw(rt, "random") {
		random := rand.New(rand.NewPCG(uint64(size), 0))
		data = strings.Map(func(rune) rune { return rune('!' + random.IntN(90)) }, data)
	}
	key := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "key")

	m.seq++
	ids := m.broker.ids.Load()
	f, _ := seal(encodeFields(&Message{Audience: Everyone(), Data: data}, ids.room), ids.room, ids.epoch, m.seq)
	e := &event{seq: m.seq, frame: f, conflateKey: key, at: time.Now().UnixNano()}
	if i := rapid.IntRange(0, len(m.cfg.Topics)).Draw(rt, "topic"); i > 0 {
		e.policy = &m.cfg.Topics[i-1]
	}
	m.shard.deliver(m.stream, e)

	full := func() bool { return len(m.items) > 0 && m.queued()+m.size(e) > m.cfg.QueueBytes }
	if full() {
		if m.shard.mayUse(Conflate) {
			m.conflate(e)
		}
		for dropped := m.shard.mayUse(DropOldest); dropped && full(); {
			dropped = m.dropOldest(rt)
		}
		left := slices.ContainsFunc(m.items[m.unwritten():], func(e *event) bool { return e.seq != 0 })
		m.closed = full() && (m.policy(e) != DropOldest || left)
	}
	if m.closed {
		m.dropped += len(slices.DeleteFunc(slices.Clone(m.items), func(e *event) bool { return e.seq == 0 }))
		m.items, m.offset = nil, 0
		return
	}
	m.items = append(m.items, e)
}

// policy returns the policy that applies to e.
func (m *queueModel) policy(e *event) SlowPolicy {
	if e.policy != nil && e.policy.SlowConsumer != "" {
		return e.policy.SlowConsumer
	}
	return m.cfg.SlowConsumer
}

// unwritten returns the index of the first item that is entirely unwritten.
func (m *queueModel) unwritten() int {
	if m.offset > 0 {
		return 1
	}
	return 0
}

// dropOldest replaces the oldest event that is entirely unwritten and may be dropped
// with a reset, unless there is a reset before it. It returns false if there is no such event.
func (m *queueModel) dropOldest(rt *rapid.T) bool {
	i := m.unwritten()
	for i < len(m.items) && (m.items[i].seq == 0 || m.policy(m.items[i]) != DropOldest) {
		i++
	}
	if i == len(m.items) {
		return false
	}

	m.dropped++
	if slices.ContainsFunc(m.items[:i], func(e *event) bool { return e.gap }) {
		m.items = slices.Delete(m.items, i, i+1)
		return true
	}
	last := m.last
	for _, e := range m.items[:i] {
		last = max(last, e.seq)
	}
	m.items[i] = m.findReset(rt, overflow{"overflow", m.broker.id(last)})
	return true
}

// conflate removes the entirely unwritten events that have the key of a later
// one.
func (m *queueModel) conflate(next *event) {
	first := m.unwritten()
	kept := slices.Clone(m.items[:first])
	for i, e := range m.items[first:] {
		later := append(slices.Clone(m.items[first+i+1:]), next)
		if e.conflateKey != "" && m.policy(e) == Conflate && slices.ContainsFunc(later, func(l *event) bool {
			return l.conflateKey == e.conflateKey && m.policy(l) == Conflate
		}) {
			m.dropped++
			continue
		}
		kept = append(kept, e)
	}
	m.items = kept
}

// mark sends a heartbeat.
func (m *queueModel) mark(rt *rapid.T) {
	m.enqueue(rt, &event{frame: sealFrame(eventstream.AppendMark(newBlock(), m.broker.id(m.seq)), chunkRoom)})
}

// reset sends the reset of a stream whose next events have left the history.
func (m *queueModel) reset(rt *rapid.T) {
	id := m.broker.id(m.seq)
	m.enqueue(rt, resetEvent(newBlock(), id, ResetExpired, id))
}

// enqueue queues an event from the daemon itself, once the queue is empty.
func (m *queueModel) enqueue(rt *rapid.T, e *event) {
	if m.closed {
		rt.Skip("the stream is closed")
	}
	m.flush(1 << 30)
	m.shard.enqueue(m.stream, e)
	m.items = append(m.items, e)
}

// write lets the connection accept some bytes, often up to the end of an event.
func (m *queueModel) write(rt *rapid.T) {
	if m.closed {
		rt.Skip("the stream is closed")
	}

	n := rapid.IntRange(-2, min(m.queued(), 400)).Draw(rt, "bytes")
	if n < 0 {
		whole := rapid.IntRange(0, len(m.items)).Draw(rt, "events")
		n = -m.offset
		for _, e := range m.items[:whole] {
			n += m.size(e)
		}
		n = max(n, 0)
	}
	m.flush(n)
}

// flush lets the connection accept n bytes.
func (m *queueModel) flush(n int) {
	m.sink.room = n
	if m.stream.writeBlocked {
		m.stream.Ready()
	}
	m.shard.takeMail()
	for m.shard.nextDirty < len(m.shard.dirty) {
		m.shard.flushSome()
	}

	n -= m.sink.room
	for n > 0 && len(m.items) > 0 {
		e := m.items[0]
		left := m.size(e) - m.offset
		if n < left {
			m.offset += n
			return
		}
		n -= left
		m.items, m.offset = m.items[1:], 0
		m.written = append(m.written, e.in(m.form).bytes(m.form)...)
		m.text = append(m.text, e.frame.block()...)
		if e.seq != 0 {
			m.last = e.seq
		}
	}
}

// check compares the queue with the model.
func (m *queueModel) check(rt *rapid.T) {
	if m.sink.closed != m.closed || (m.stream.phase == phaseClosed) != m.closed {
		rt.Fatalf("the stream's phase is %v, want closed %t", m.stream.phase, m.closed)
	}
	q := &m.stream.queue
	if !slices.Equal(q.events[q.head:], m.items) || int(q.offset) != m.offset {
		rt.Fatalf("%d bytes of %s are written, want %d bytes of %s", q.offset, describe(q.events[q.head:]), m.offset, describe(m.items))
	}
	if n := m.queued(); int(q.bytes) != n || m.shard.counters.queuedBytes.Load() != int64(n) {
		rt.Fatalf("%d bytes are queued and %d counted, want %d", q.bytes, m.shard.counters.queuedBytes.Load(), n)
	}
	if n := m.shard.counters.dropped[SlowConsumer].Load(); n != int64(m.dropped) {
		rt.Fatalf("%d events are counted as dropped, want %d", n, m.dropped)
	}
	isHeld := func(e *event) bool { return e != nil }
	if slices.ContainsFunc(q.events[:q.head], isHeld) || slices.ContainsFunc(q.events[len(q.events):cap(q.events)], isHeld) {
		rt.Fatal("the queue holds an event that has left it")
	}
	if m.closed {
		return
	}

	want := m.written
	if m.offset > 0 {
		want = append(slices.Clone(want), m.items[0].in(m.form).bytes(m.form)[:m.offset]...)
	}
	if !bytes.Equal(m.sink.got, want) {
		rt.Fatalf("the connection got %q, want %q", m.sink.got, want)
	}
}

// describe returns the sequence numbers of events, with R for a reset that
// replaces events.
func describe(events []*event) string {
	var text []string
	for _, e := range events {
		switch {
		case e.gap:
			text = append(text, "R")
		default:
			text = append(text, string(appendID(nil, "", e.seq)))
		}
	}
	return "[" + strings.Join(text, " ") + "]"
}

// finish closes the stream and checks that the whole body can be decoded.
func (m *queueModel) finish(rt *rapid.T) {
	if m.closed {
		return
	}
	m.shard.beginClosing(m.stream, phaseStopping)
	q := &m.stream.queue
	m.items = append(m.items, q.events[len(q.events)-1])
	m.flush(1 << 30)
	if !m.sink.closed || len(m.items) > 0 {
		rt.Fatalf("the stream is %v with %s in the queue", m.stream.phase, describe(m.items))
	}

	var r io.Reader = bytes.NewReader(m.sink.got)
	if m.form.has(chunked) {
		r = httputil.NewChunkedReader(r)
	}
	if m.form.has(gzipped) {
		z, err := gzip.NewReader(r)
		if err != nil {
			rt.Fatal(err)
		}
		r = z
	}
	text, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(text, m.text) {
		rt.Fatalf("the body is %q (%v), want %q", text, err, m.text)
	}
}
