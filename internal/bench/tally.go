package bench

import (
	"bytes"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/peald/peald/internal/eventstream"
)

// stream is what is known of one stream, whatever holds it. Its tally's lock
// protects it.
type stream struct {
	user     uint32 // the number of the user whom it belongs to, 0 for nobody
	seen     sequence
	decoder  *eventstream.Decoder // while a block is incomplete
	hasEnded bool
}

// tally counts what arrives on many streams. It may be used by several
// goroutines, and belongs to one in practice wherever that matters.
type tally struct {
	payloads *payloads

	mu          sync.Mutex
	opened      int
	arrived     int64 // messages, each counted once a stream
	doubled     int64
	late        int64
	damaged     int64
	misdirected int64
	foreign     int64 // events of others than this run
	lastAt      time.Duration
	connects    *hdrhistogram.Histogram // microseconds
	latency     *hdrhistogram.Histogram // microseconds
	ends        map[string]int          // streams that ended, by reason

	// What event is called back about.
	current *stream
	now     time.Duration

	between *eventstream.Decoder   // for what holds nothing but whole blocks
	spare   []*eventstream.Decoder // of streams whose block has come to its end
}

func newTally(p *payloads) *tally {
	t := &tally{payloads: p, connects: newHistogram(), latency: newHistogram(), ends: map[string]int{}}
	t.between = t.newDecoder()
	return t
}

func newHistogram() *hdrhistogram.Histogram {
	const digits = 3
	return hdrhistogram.New(1, (10 * time.Minute).Microseconds(), digits)
}

func (t *tally) newDecoder() *eventstream.Decoder {
	return &eventstream.Decoder{OnEvent: t.event}
}

// open counts a stream whose response has begun.
func (t *tally) open(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened++
	record(t.connects, took)
}

// end counts a stream that ended before the run did.
func (t *tally) end(s *stream, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.hasEnded {
		s.hasEnded = true
		t.ends[why]++
	}
}

// take decodes a piece of s.
//
// Streams share one decoder as long as pieces end with a block, as nearly all
// do: a decoder for each of many thousand would be most of what they cost.
func (t *tally) take(s *stream, piece []byte) {
	if len(piece) == 0 {
		return
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	t.current, t.now = s, t.payloads.now()
	whole := bytes.HasSuffix(piece, []byte("\n\n"))
	if s.decoder == nil && whole {
		_, _ = t.between.Write(piece)
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

// event judges an event on the current stream.
func (t *tally) event(e eventstream.Event) {
	if string(e.Type) == eventstream.MarkType {
		return
	}

	m, ok := t.payloads.read(e.Data)
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

	switch t.current.seen.take(m.number) {
	case again:
		t.doubled++
		return
	case late:
		t.late++
	case inOrder:
	}

	t.arrived++
	record(t.latency, t.now-m.sentAt)
}

// record takes what is beyond the histogram's range for the range's end.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), h.HighestTrackableValue()))
}

// forget sets back what is counted of a load, before the next.
func (t *tally) forget() {
	t.arrived, t.doubled, t.late, t.damaged, t.misdirected, t.foreign, t.lastAt = 0, 0, 0, 0, 0, 0, 0
	t.latency.Reset()
}

// state is what a run looks at while it waits.
type state struct {
	opened, ended int
	arrived       int64
}

func (t *tally) state() state {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := state{opened: t.opened, arrived: t.arrived}
	for _, n := range t.ends {
		s.ended += n
	}
	return s
}
