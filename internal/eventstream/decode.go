package eventstream

import (
	"bytes"
	"time"
)

// Event is an event that a decoder dispatches. Its slices are valid only during the
// call of [Decoder.OnEvent].
type Event struct {
	// Type is the event's type, or "message" if the stream specifies none.
	Type []byte
	// Data holds the event's data, with LF between its lines.
	Data []byte
	// ID is the last event id as of this event. An earlier block may have set it.
	ID []byte
	// HasID reports whether the event's own block has an id.
	HasID bool
}

// Decoder interprets a stream according to §9.2.6. The stream may be split into pieces
// at any byte. The zero value is ready to use. A decoder holds memory only for an
// incomplete block, so a program can have thousands of decoders.
type Decoder struct {
	// OnEvent is called for each event that is dispatched.
	OnEvent func(Event)

	line    []byte // a line whose end has not arrived yet
	event   []byte
	data    []byte
	id      []byte // the id field of the block being read
	lastID  []byte
	retry   time.Duration
	hasData bool
	hasID   bool
	sawCR   bool // the last byte was CR; an LF right after it is part of the same line break
	started bool // a leading byte order mark has been removed or ruled out
}

// Resume sets the last event id, for a stream that continues an earlier one. It must
// be called before Write.
func (d *Decoder) Resume(id string) { d.lastID = append(d.lastID[:0], id...) }

// Buffered returns the number of bytes that the decoder holds for an incomplete
// block.
func (d *Decoder) Buffered() int {
	n := len(d.line) + len(d.event) + len(d.data)
	if d.hasID {
		n += len(d.id)
	}
	return n
}

// LastEventID returns the id that a client would now send in the Last-Event-ID header.
func (d *Decoder) LastEventID() string { return string(d.lastID) }

// Retry returns the reconnection time that the stream has set, or zero if there is
// none.
func (d *Decoder) Retry() time.Duration { return d.retry }

// Write decodes p and never fails.
func (d *Decoder) Write(p []byte) (int, error) {
	n := len(p)
	if !d.started {
		if p = d.stripBOM(p); !d.started {
			return n, nil
		}
	}

	for len(p) > 0 {
		if d.sawCR {
			d.sawCR = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}

		i := endOfLine(p)
		if i < 0 {
			d.line = append(d.line, p...)
			break
		}

		line := p[:i]
		if len(d.line) > 0 {
			d.line = append(d.line, line...)
			line = d.line
		}
		d.sawCR = p[i] == '\r'
		p = p[i+1:]
		d.field(line)
		d.line = d.line[:0]
	}

	if len(p) == 0 && len(d.line) == 0 {
		d.line = nil
	}
	return n, nil
}

// endOfLine returns the index of the first CR or LF in p, or -1 if there is none.
func endOfLine(p []byte) int {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		return bytes.IndexByte(p, '\r')
	}
	if j := bytes.IndexByte(p[:i], '\r'); j >= 0 {
		return j
	}
	return i
}

// stripBOM removes a byte order mark from the start of the stream (UTF-8 decode,
// WHATWG Encoding §6), even if it arrives one byte at a time.
func (d *Decoder) stripBOM(p []byte) []byte {
	bom := []byte("\uFEFF")
	d.line = append(d.line, p...)
	head := d.line
	if len(head) < len(bom) && bytes.HasPrefix(bom, head) {
		return nil
	}
	d.started = true
	d.line = nil
	return bytes.TrimPrefix(head, bom)
}

func (d *Decoder) field(line []byte) {
	if len(line) == 0 {
		d.dispatch()
		return
	}
	name, value, _ := bytes.Cut(line, []byte{':'})
	value = bytes.TrimPrefix(value, []byte{' '})
	switch string(name) {
	case "event":
		d.event = append(d.event[:0], value...)
	case "data":
		d.data = append(append(d.data, value...), '\n')
		d.hasData = true
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.id = append(d.id[:0], value...)
			d.hasID = true
		}
	case "retry":
		d.setRetry(value)
	}
}

func (d *Decoder) setRetry(value []byte) {
	if len(value) == 0 || len(value) > 15 {
		return
	}
	var ms int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return
		}
		ms = ms*10 + int64(c-'0')
	}
	const most = int64(1<<63-1) / int64(time.Millisecond)
	d.retry = time.Duration(min(ms, most)) * time.Millisecond
}

func (d *Decoder) dispatch() {
	hasID := d.hasID
	if hasID {
		d.lastID = append(d.lastID[:0], d.id...)
		d.hasID = false
	}
	if d.hasData && d.OnEvent != nil {
		e := Event{Type: d.event, Data: d.data[:len(d.data)-1], ID: d.lastID, HasID: hasID}
		if len(e.Type) == 0 {
			e.Type = []byte("message")
		}
		d.OnEvent(e)
	}

	d.hasData = false
	d.event, d.data = d.event[:0], d.data[:0]
	const keep = 4 << 10
	if cap(d.data) > keep {
		d.data = nil
	}
}
