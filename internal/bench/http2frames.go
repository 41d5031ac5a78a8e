package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frameCodec decodes and encodes HTTP/2 frames. Any number of connections can
// share one, since it keeps nothing between complete frames.
type frameCodec struct {
	framer *http2.Framer
	in     bytes.Reader
	out    bytes.Buffer // encoded frames
}

func newFrameCodec() *frameCodec {
	c := &frameCodec{}
	c.reset()
	return c
}

// reset forgets what a malformed frame has left behind.
func (c *frameCodec) reset() {
	c.framer = http2.NewFramer(&c.out, &c.in)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.framer.MaxHeaderListSize = maxHead
}

// decode decodes one complete frame, or a header block with its continuations.
// The frame is valid until the next call.
func (c *frameCodec) decode(encoded []byte, headers *hpack.Decoder) (http2.Frame, error) {
	c.in.Reset(encoded)
	c.framer.ReadMetaHeaders = headers
	frame, err := c.framer.ReadFrame()
	if err == nil {
		return frame, nil
	}

	detail := c.framer.ErrorDetail()
	c.reset()

	if _, ok := errors.AsType[http2.StreamError](err); !ok && detail != nil {
		err = fmt.Errorf("%w: %w", err, detail)
	}
	return nil, err
}

const (
	frameHeader = 9        // bytes
	maxFrame    = 16 << 10 // bytes of payload that a server may send, unless the client allows more
)

// frameLen returns the length of the frame at the front of received, or 0 if it
// isn't complete. CONTINUATION frames belong to the header block before them (RFC
// 9113 §6.10).
func frameLen(received []byte) (int, error) {
	n := 0
	for {
		rest := received[n:]
		if len(rest) < frameHeader {
			return 0, nil
		}

		payload := int(rest[0])<<16 | int(binary.BigEndian.Uint16(rest[1:]))
		kind, flags := http2.FrameType(rest[3]), http2.Flags(rest[4])
		if payload > maxFrame {
			return 0, fmt.Errorf("HTTP/2 frame of %d bytes; the limit is %d", payload, maxFrame)
		}
		if n+frameHeader+payload > len(received) {
			return 0, nil
		}

		n += frameHeader + payload
		block := kind == http2.FrameHeaders || kind == http2.FrameContinuation
		if !block || flags.Has(http2.FlagHeadersEndHeaders) {
			return n, nil
		}
		if n > maxHead {
			return 0, fmt.Errorf("HTTP/2 header block longer than %d bytes", maxHead)
		}
	}
}
