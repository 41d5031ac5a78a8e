// Package eventstream encodes and decodes text/event-stream, the wire format
// of server-sent events: WHATWG HTML Living Standard §9.2.5 (parsing) and
// §9.2.6 (interpreting). It knows frames and nothing of who gets them.
package eventstream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxType is the length of the longest event type, in bytes.
const MaxType = 255

// ValidType reports why event can't be the type of an event, or nil. The
// empty type is valid: EventSource dispatches it as "message".
func ValidType(event string) error {
	if len(event) > MaxType {
		return fmt.Errorf("is %d bytes long, at most %d are accepted", len(event), MaxType)
	}
	if i := strings.IndexAny(event, "\r\n\x00"); i >= 0 {
		return fmt.Errorf("has %q at byte %d, and CR, LF and NUL can't be in an event type", event[i], i)
	}
	if !utf8.ValidString(event) {
		return errors.New("is not valid UTF-8")
	}
	return nil
}

// AppendEvent appends one whole frame: id, type and data, and the empty line
// that dispatches it. An empty id or event leaves its field out. The id must
// be free of CR, LF and NUL, and event valid by [ValidType]; data may be any
// UTF-8.
func AppendEvent(dst []byte, id, event, data string) []byte {
	if id != "" {
		dst = AppendID(dst, id)
	}
	return AppendFields(dst, event, data)
}

// MarkType is the event type of position marks.
const MarkType = "peald.mark"

// AppendMark appends a position mark: a whole block that carries an id and no
// data. Without an id it is a mere sign of life.
//
// The mark has a type and an empty data field, so that clients dispatch it as
// an event nobody listens for. By the standard an id alone would do (§9.2.6
// sets the last event id before it looks at the data), but Firefox, WebKitGTK
// and several libraries keep the id of dispatched events only.
func AppendMark(dst []byte, id string) []byte {
	dst = append(dst, "event: "+MarkType+"\n"...)
	if id != "" {
		dst = AppendID(dst, id)
	}
	return append(dst, "data:\n\n"...)
}

// AppendID appends the id field alone, without the end of a block.
func AppendID(dst []byte, id string) []byte {
	dst = append(dst, "id: "...)
	dst = append(dst, id...)
	return append(dst, '\n')
}

// AppendFields appends what [AppendEvent] does after the id: a publisher can
// so encode an event before its id is known.
//
// CR, LF and CRLF in data each become a line break, which EventSource gives
// back as LF. Each line gets a space after its colon, since a decoder takes
// one away and data may begin with a space of its own.
func AppendFields(dst []byte, event, data string) []byte {
	if event != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, event...)
		dst = append(dst, '\n')
	}
	hasCR := strings.IndexByte(data, '\r') >= 0
	for {
		dst = append(dst, "data: "...)
		var i int
		if hasCR {
			i = strings.IndexAny(data, "\r\n")
		} else {
			i = strings.IndexByte(data, '\n')
		}
		if i < 0 {
			dst = append(dst, data...)
			break
		}
		dst = append(dst, data[:i]...)
		dst = append(dst, '\n')
		if data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n' {
			i++
		}
		data = data[i+1:]
	}
	return append(dst, '\n', '\n')
}

// FieldsSize returns a size that [AppendFields] needs for data without line
// breaks; each break adds six bytes or fewer.
func FieldsSize(event, data string) int {
	return len("event: \ndata: \n\n") + len(event) + len(data)
}

// AppendRetry appends a reconnection time, in whole milliseconds, without the
// end of a block.
func AppendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, d.Milliseconds(), 10)
	return append(dst, '\n')
}

// AppendEnd appends the empty line that ends a block.
func AppendEnd(dst []byte) []byte {
	return append(dst, '\n')
}
