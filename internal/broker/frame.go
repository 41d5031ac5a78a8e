package broker

import "strconv"

// frame holds one block of a stream as bytes that all streams share. The bytes
// are a chunk of HTTP/1.1's chunked transfer coding (RFC 9112 §7.1) that
// contains the block, so a stream can send either form without copying.
type frame struct {
	chunk []byte
	lead  uint8 // bytes of chunk before the block
	tail  uint8 // bytes of chunk after the block
}

const (
	// chunkRoom is the room for the line before a chunk's data: a size of up
	// to eight hexadecimal digits, and CRLF.
	chunkRoom = 8 + 2
	// chunkEnd follows a chunk's data.
	chunkEnd = "\r\n"
	// lastChunk ends a body.
	lastChunk = "0\r\n\r\n"
)

// newBlock returns a buffer to append a block to, with room for its frame. Pass
// the result to [sealFrame].
func newBlock() []byte { return make([]byte, chunkRoom, 128) }

// form is the form in which a stream sends its body: a set of codings.
type form uint8

const (
	// chunked is HTTP/1.1's chunked transfer coding.
	chunked form = 1 << iota
	// gzipped is the gzip content coding.
	gzipped
	// enveloped puts the data of published events into envelopes.
	enveloped
)

// has reports whether the form includes one of the given codings.
func (f form) has(coding form) bool { return f&coding != 0 }

// sealFrame returns a frame for the block at buf[start:], where start is at least
// chunkRoom. It overwrites the bytes right before the block, and appends to the
// block.
func sealFrame(buf []byte, start int) frame {
	var scratch [chunkRoom]byte
	line := strconv.AppendInt(scratch[:0], int64(len(buf)-start), 16)
	line = append(line, "\r\n"...)
	copy(buf[start-len(line):], line)
	buf = append(buf, chunkEnd...)
	return frame{chunk: buf[start-len(line):], lead: uint8(len(line)), tail: uint8(len(chunkEnd))}
}

// last returns the frame followed by the end of the body.
func (f frame) last() frame {
	f.chunk = append(f.chunk, lastChunk...)
	f.tail += uint8(len(lastChunk))
	return f
}

// rawFrame returns a frame for bytes that are the same in every form, such as the
// head of a response.
func rawFrame(p []byte) frame { return frame{chunk: p} }

// raw reports whether the frame was returned by rawFrame. A chunk begins with
// its size.
func (f frame) raw() bool { return f.lead == 0 }

// block returns the block without its chunk framing.
func (f frame) block() []byte { return f.chunk[f.lead : len(f.chunk)-int(f.tail)] }

// bytes returns the bytes that a stream sends. The form must have the frame's
// content coding.
func (f frame) bytes(in form) []byte {
	if in.has(chunked) {
		return f.chunk
	}
	return f.block()
}

// size returns the length of bytes.
func (f frame) size(in form) int {
	if in.has(chunked) {
		return len(f.chunk)
	}
	return len(f.chunk) - int(f.lead) - int(f.tail)
}
