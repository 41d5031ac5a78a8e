package bench

import (
	"bytes"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/peald/peald/internal/eventstream"
)

// stream is the state of one stream in either kind of pool. The mutex of its tally
// protects it.
type stream struct {
	user    uint32 // number of the user that it belongs to; 0 for none
	seen    sequence
	decoder *eventstream.Decoder // set while a block is incomplete
	closed  bool
}

// tally counts the arrivals on many streams. It is safe for concurrent use, but
// has little contention: in a native pool each reader has its own.
type tally struct {
	payloads *payloads

	mu          sync.Mutex
	opened      int
	arrived     int64 // messages, without duplicates
	duplicated  int64
	late        int64
	damaged     int64
	misdirected int64
	foreign     int64 // events that don't belong to this run
	lastAt      time.Duration
	connects    *hdrhistogram.Histogram // microseconds
	latency     *hdrhistogram.Histogram // microseconds

	closeReasons map[string]int // streams that closed, by reason

	// Arguments for the event callback.
	current *stream
	now     time.Duration

	shared *eventstream.Decoder   // for pieces that hold complete blocks only
	spare  []*eventstream.Decoder // decoders not in use
}

func newTally(p *payloads) *tally {
	t := &tally{payloads: p, connects: newHistogram(), latency: newHistogram(), closeReasons: map[string]int{}}
	t.shared = t.newDecoder()
	return t
}

func newHistogram() *hdrhistogram.Histogram {
	const digits = 3
	return hdrhistogram.New(1, (10 * time.Minute).Microseconds(), digits)
}

func (t *tally) newDecoder() *eventstream.Decoder {
	return &eventstream.Decoder{OnEvent: t.event}
}

// streamOpened counts a stream that received its response header. took is the time
// since the connect.
func (t *tally) streamOpened(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened++
	record(t.connects, took)
}

// streamClosed counts a stream that closed before the end of the run.
func (t *tally) streamClosed(s *stream, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.closed {
		s.closed = true
		t.closeReasons[reason]++
	}
}

// decode decodes a piece of s.
//
// Streams share one decoder as long as their pieces end with a complete block,
// which nearly all do. With a decoder per stream, the decoder would account for
// most of a stream's cost.
func (t *tally) decode(s *stream, piece []byte) {
	if len(piece) == 0 {
		return
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	t.current, t.now = s, t.payloads.now()
	whole := bytes.HasSuffix(piece, []byte("\n\n"))
	if s.decoder == nil && whole {
		_, _ = t.shared.Write(piece)
		return
	}

	if s.decoder == nil {
		s.decoder = t.borrow()
	}

	_, _ = s.decoder.Write(piece)
	if whole {
		t.spare = append(t.spare, s.decoder)
		s.decoder = nil
	}
}

func (t *tally) borrow() *eventstream.Decoder {
	n := len(t.spare)
	if n == 0 {
		return t.newDecoder()
	}
	d := t.spare[n-1]
	t.spare = t.spare[:n-1]
	return d
}

// receive checks the data of an event on s.
func (t *tally) receive(s *stream, data string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current, t.now = s, t.payloads.now()
	t.check([]byte(data))
}

// event checks an event on the current stream.
func (t *tally) event(e eventstream.Event) {
	if string(e.Type) != eventstream.MarkType {
		t.check(e.Data)
	}
}

// check checks the data of an event on the current stream.
func (t *tally) check(data []byte) {
	m, ok := t.payloads.read(data)
	if !ok {
		t.foreign++
		return
	}

	t.lastAt = t.now
	if !m.whole {
		t.damaged++
	}

	if m.target != t.current.user {
		t.misdirected++
		return
	}

	switch t.current.seen.add(m.number) {
	case duplicate:
		t.duplicated++
		return
	case late:
		t.late++
	case inOrder:
	}

	t.arrived++
	record(t.latency, t.now-m.sentAt)
}

// record adds d to h, clamped to the range of h.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), h.HighestTrackableValue()))
}

// reset clears the counts from one load before the next.
func (t *tally) reset() {
	t.arrived, t.duplicated, t.late, t.damaged, t.misdirected, t.foreign, t.lastAt = 0, 0, 0, 0, 0, 0, 0
	t.latency.Reset()
}

// state holds the counts that a run polls while it waits.
type state struct {
	opened, closed int
	arrived        int64
}

func (t *tally) state() state {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := state{opened: t.opened, arrived: t.arrived}
	for _, n := range t.closeReasons {
		s.closed += n
	}
	return s
}
