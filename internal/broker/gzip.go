package broker

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/flate"
)

// A gzip body (RFC 1952) consists of a header, deflate blocks (RFC 1951), and a
// trailer with a checksum. Streams share everything except the trailer: the
// deflate blocks of each event end at a byte boundary and don't refer to
// anything outside the event. So they can follow any other event, and an event
// is compressed once for any number of streams.
//
// The blocks of each event end with an empty stored block. Decoders based on
// zlib return data as soon as they have it, but Go's compress/flate returns it
// only at such a block, or when its window is full.
const (
	// gzipHeader starts a body. It states neither a time nor an operating
	// system (RFC 1952 §2.3.1).
	gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
	// flushBlock is an empty stored block that starts at a byte boundary.
	flushBlock = "\x00\x00\x00\xff\xff"
	// finalBlock is an empty final block with fixed Huffman codes.
	finalBlock = "\x03\x00"

	// maxStored is the maximum length of a stored block, and storedHeader the
	// length of what precedes its bytes (RFC 1951 §3.2.4).
	maxStored    = 1<<16 - 1
	storedHeader = 5

	// minDeflated is the minimum length of a block that is compressed, in
	// bytes. Compressing a smaller one costs more than it saves.
	minDeflated = 400

	// packedOverhead is the approximate memory that a packed uses in addition
	// to its frame's bytes.
	packedOverhead = 80
	// maxScratch is the capacity up to which a shard keeps its scratch space, in
	// bytes.
	maxScratch = 64 << 10
)

// packed is an event's frame for gzip bodies.
type packed struct {
	once  sync.Once // sets the other fields
	frame frame
	sum   blockSum // of the event's block
}

// in returns the frame for a form. For a form with gzip, the event must be
// packed.
func (e *event) in(f form) *frame {
	if f.has(gzipped) {
		return &e.packed.Load().frame
	}
	return &e.frame
}

// pack packs e, which is the published event or its envelope. Shards that pack the same
// event at the same time wait until the first of them has done so.
func (s *shard) pack(e, published *event) {
	p := e.packed.Load()
	if p == nil {
		if p = new(packed); !e.packed.CompareAndSwap(nil, p) {
			p = e.packed.Load()
		}
	}

	p.once.Do(func() {
		if p.frame.chunk != nil {
			return // made together with the event
		}
		if e.frame.raw() {
			p.frame, p.sum = e.frame, sumOf(nil) // not part of the body
			return
		}
		p.frame, p.sum = s.gzipFrame(e.frame.block()), sumOf(e.frame.block())
		if siblings := e.siblings(); siblings != nil {
			s.broker.countShared(siblings, len(p.frame.chunk)+packedOverhead)
		} else if e.seq != 0 && published.keeps(e) {
			s.broker.countCopy(published, len(p.frame.chunk)+packedOverhead)
		}
	})
}

// gzipFrame returns a frame of the deflate blocks for an event. The event is
// compressed if it is large and compression makes it smaller.
func (s *shard) gzipFrame(block []byte) frame {
	stored := storedSize(len(block))
	if len(block) >= minDeflated {
		s.scratch.Reset()
		_ = flate.StatelessDeflate(&s.scratch, block, false, nil) // writing to a buffer can't fail
		deflated := s.scratch.Bytes()
		s.trimScratch()
		if len(deflated) < stored {
			buf := make([]byte, chunkRoom, chunkRoom+len(deflated)+len(chunkEnd))
			return sealFrame(append(buf, deflated...), chunkRoom)
		}
	}

	buf := make([]byte, chunkRoom, chunkRoom+stored+len(chunkEnd))
	return sealFrame(appendStored(buf, block), chunkRoom)
}

// trimScratch releases the scratch space if it has become large. What was in it is still
// valid.
func (s *shard) trimScratch() {
	if s.scratch.Cap() > maxScratch {
		s.scratch = bytes.Buffer{}
	}
}

// startGzip packs a stream's first event, with the header of the body.
func (e *event) startGzip() {
	block := e.frame.block()
	body := appendStored(append(newBlock(), gzipHeader...), block)
	e.packed.Store(&packed{frame: sealFrame(body, chunkRoom), sum: sumOf(block)})
}

// appendStored appends p in stored blocks and an empty one.
func appendStored(dst, p []byte) []byte {
	for len(p) > 0 {
		n := min(len(p), maxStored)
		dst = append(dst, 0) // not the final block; stored
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
		dst = binary.LittleEndian.AppendUint16(dst, ^uint16(n))
		dst = append(dst, p[:n]...)
		p = p[n:]
	}
	return append(dst, flushBlock...)
}

// storedSize returns the number of bytes that appendStored appends for n bytes.
func storedSize(n int) int {
	return n + (n+maxStored-1)/maxStored*storedHeader + len(flushBlock)
}
