// Package eventstream encodes and decodes text/event-stream, the wire format of
// server-sent events: WHATWG HTML Living Standard §9.2.5 (parsing) and §9.2.6
// (interpreting).
package eventstream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxType is the maximum length of an event type, in bytes.
const MaxType = 255

// ValidType returns nil if event is a valid event type. Otherwise it returns an error
// that completes a sentence starting with the name of the field. The empty type is
// valid: EventSource dispatches it as "message".
func ValidType(event string) error {
	if len(event) > MaxType {
		return fmt.Errorf("is %d bytes long; want at most %d", len(event), MaxType)
	}
	if i := strings.IndexAny(event, "\r\n\x00"); i >= 0 {
		return fmt.Errorf("has %q at byte %d; CR, LF and NUL are not allowed in an event type", event[i], i)
	}
	if !utf8.ValidString(event) {
		return errors.New("is not valid UTF-8")
	}
	return nil
}

// AppendEvent appends a whole event: id, type, data, and the empty line that dispatches
// it. It omits the id field if id is empty, and the event field if event is empty. The
// id must not contain CR, LF or NUL, and event must be valid according to [ValidType].
// data may be any UTF-8 text.
func AppendEvent(dst []byte, id, event, data string) []byte {
	if id != "" {
		dst = AppendID(dst, id)
	}
	return AppendFields(dst, event, data)
}

// MarkType is the event type of position marks.
const MarkType = "peald.mark"

// AppendMark appends a position mark: a whole block with an id and no data. Without
// an id, the block is just a heartbeat.
//
// The mark has a type and an empty data field, so clients dispatch it as an event that
// has no listeners. According to the standard, an id alone would suffice (§9.2.6 sets
// the last event id before it checks the data). However, Firefox, WebKitGTK and several
// libraries keep only the ids of dispatched events.
func AppendMark(dst []byte, id string) []byte {
	dst = append(dst, "event: "+MarkType+"\n"...)
	if id != "" {
		dst = AppendID(dst, id)
	}
	return append(dst, "data:\n\n"...)
}

// AppendID appends an id field, without the end of the block.
func AppendID(dst []byte, id string) []byte {
	dst = append(dst, "id: "...)
	dst = append(dst, id...)
	return append(dst, '\n')
}

// AppendFields appends what [AppendEvent] appends after the id, so that an event
// can be encoded before its id is known.
//
// CR, LF and CRLF in data each become a line break, which EventSource returns as
// LF. Each line has a space after its colon, because decoders remove one space
// and data may start with one.
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

// AppendLine appends a whole event with an id, a type, and data that has no line breaks,
// such as JSON.
func AppendLine(dst []byte, id, event string, data []byte) []byte {
	dst = AppendID(dst, id)
	dst = append(dst, "event: "...)
	dst = append(dst, event...)
	dst = append(dst, "\ndata: "...)
	dst = append(dst, data...)
	return append(dst, '\n', '\n')
}

// FieldsSize returns the number of bytes that [AppendFields] appends for data without
// line breaks, or slightly more. Each line break adds at most six bytes.
func FieldsSize(event, data string) int {
	return len("event: \ndata: \n\n") + len(event) + len(data)
}

// AppendRetry appends a reconnection time in whole milliseconds, without the end
// of the block.
func AppendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, d.Milliseconds(), 10)
	return append(dst, '\n')
}

// AppendEnd appends the empty line that ends a block.
func AppendEnd(dst []byte) []byte {
	return append(dst, '\n')
}
