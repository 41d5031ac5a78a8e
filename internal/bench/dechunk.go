package bench

import (
	"bytes"
	"errors"
)

// dechunker decodes the chunked transfer coding (RFC 9112 §7.1) of a body that
// arrives in pieces. The zero value is ready to use.
type dechunker struct {
	state chunkState
	size  int // the part of the chunk size parsed so far, then the bytes left in the chunk
}

type chunkState uint8

const (
	chunkSize      chunkState = iota
	chunkExtension            // the rest of the line with the size
	chunkData
	chunkDataEnd // the line break after the data
	chunkTrailer // after the last chunk
)

var (
	errChunk = errors.New("malformed chunked transfer coding")
	errEnd   = errors.New("end of the response")
)

// next removes the next piece of the body from the front of received and returns
// it. The piece is empty if received contains no more of the body.
func (d *dechunker) next(received *[]byte) (body []byte, err error) {
	p := *received
	defer func() { *received = p }()

	for len(p) > 0 {
		switch d.state {
		case chunkSize:
			digit, ok := hexDigit(p[0])
			switch {
			case ok && d.size < 1<<40:
				d.size = d.size<<4 | digit
				p = p[1:]
			case p[0] == ';' || p[0] == '\r' || p[0] == '\n':
				d.state = chunkExtension
			default:
				return nil, errChunk
			}
		case chunkExtension:
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				p = nil
				break
			}

			p = p[i+1:]
			d.state = chunkData
			if d.size == 0 {
				d.state = chunkTrailer
			}
		case chunkData:
			n := min(d.size, len(p))
			body, p = p[:n], p[n:]
			if d.size -= n; d.size == 0 {
				d.state = chunkDataEnd
			}
			return body, nil
		case chunkDataEnd:
			switch p[0] {
			case '\r':
			case '\n':
				d.state = chunkSize
			default:
				return nil, errChunk
			}
			p = p[1:]
		case chunkTrailer:
			return nil, errEnd
		}
	}

	return nil, nil
}

func hexDigit(c byte) (int, bool) {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0'), true
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10, true
	default:
		return 0, false
	}
}
