package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"

	"google.golang.org/protobuf/encoding/protojson"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// maxLine is the maximum length of a line. It exceeds that of any message that a daemon
// accepts.
const maxLine = 4 << 20

// byteOrderMark marks the start of files that some editors on Windows write.
const byteOrderMark = "\ufeff"

// lineReader reads lines that are at most maxLine bytes long.
type lineReader struct {
	input  *bufio.Reader
	number int
}

// line is a line of the input.
type line struct {
	number  int
	bytes   int // with the line break
	text    []byte
	tooLong bool // text is incomplete
}

// newLineReader returns a reader that skips a byte order mark at the start of the input.
func newLineReader(input io.Reader) *lineReader {
	r := bufio.NewReaderSize(input, 64<<10)
	if start, err := r.Peek(len(byteOrderMark)); err == nil && string(start) == byteOrderMark {
		_, _ = r.Discard(len(byteOrderMark))
	}
	return &lineReader{input: r}
}

// next returns the next line, or io.EOF.
func (r *lineReader) next() (line, error) {
	r.number++
	l := line{number: r.number}
	for {
		part, err := r.input.ReadSlice('\n')
		l.bytes += len(part)
		if l.tooLong = l.tooLong || len(l.text)+len(part) > maxLine; !l.tooLong {
			l.text = append(l.text, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && l.bytes > 0:
			return l, nil // the last line has no line break
		default:
			return l, err
		}
	}
}

// blank reports whether the line has no message.
func (l line) blank() bool { return !l.tooLong && len(bytes.TrimSpace(l.text)) == 0 }

// jsonPosition matches the part of a protojson error that precedes the reason. Its
// wording differs between builds.
var jsonPosition = regexp.MustCompile(`^proto:\p{Zs}*(?:syntax error )?\(line \d+:(\d+)\): `)

// message returns the message in the line.
func (l line) message() (*pealv1.PublishStreamRequest, error) {
	if l.tooLong {
		return nil, fmt.Errorf("longer than %d bytes, the limit for a message", maxLine)
	}

	if !json.Valid(l.text) {
		return nil, errors.New("invalid message: not JSON")
	}
	m := new(pealv1.PublishStreamRequest)
	if err := protojson.Unmarshal(l.text, m); err != nil {
		text := err.Error()
		if at := jsonPosition.FindStringSubmatch(text); at != nil {
			return nil, fmt.Errorf("invalid message: %s (column %s)", text[len(at[0]):], at[1])
		}
		return nil, fmt.Errorf("invalid message: %s", text)
	}
	return m, nil
}
