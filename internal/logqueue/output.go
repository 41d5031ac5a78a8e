package logqueue

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"time"
)

// pieceBytes limits the size of a write that contains several lines. Writes to a
// pipe up to this size are atomic (PIPE_BUF on Linux).
const pieceBytes = 4096

// retryDelay is the pause before the next write to a full descriptor that another
// process has made non-blocking.
const retryDelay = 10 * time.Millisecond

// output writes complete lines.
type output struct {
	w    io.Writer
	torn bool // the last line was written partially
}

// write writes text and returns how many of its lines were lost.
func (o *output) write(text []byte) (lost int64) {
	for len(text) > 0 {
		size := len(text)
		if size > pieceBytes {
			size = bytes.LastIndexByte(text[:pieceBytes], '\n') + 1
		}

		if size == 0 { // one long line
			size = bytes.IndexByte(text, '\n') + 1
		}

		lost += o.writePiece(text[:size])
		text = text[size:]
	}

	return lost
}

// writePiece writes complete lines and returns how many were lost. A partially
// written line counts as lost.
func (o *output) writePiece(piece []byte) int64 {
	if o.torn {
		if _, err := o.writeAll([]byte{'\n'}); err != nil {
			return int64(countLines(piece))
		}

		o.torn = false
	}

	n, err := o.writeAll(piece)
	if err == nil {
		return 0
	}

	o.torn = n > 0 && piece[n-1] != '\n'

	return int64(countLines(piece[n:]))
}

// writeAll writes p like [io.Writer], but retries while a descriptor is full.
func (o *output) writeAll(p []byte) (n int, err error) {
	for {
		var m int
		m, err = o.w.Write(p[n:])
		n += m

		if !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}

		time.Sleep(retryDelay)
	}
}

// countLines returns the number of lines that end in text.
func countLines(text []byte) int { return bytes.Count(text, []byte{'\n'}) }
