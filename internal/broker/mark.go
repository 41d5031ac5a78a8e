package broker

import (
	"math/rand/v2"

	"github.com/peald/peald/internal/eventstream"
)

// greeting returns a stream's first block. It holds the reconnection time and
// either the position mark that the stream starts from, or a reset with the reason
// why the stream can't resume. If retained values follow, the position mark comes
// after them, and a reset has no id: a client that loses its connection in between
// must start again, since it would otherwise miss values.
func (s *shard) greeting(st *Stream) *event {
	block := s.appendRetry(newBlock())
	r := st.resume
	valuesFollow := r != nil && r.values != nil
	switch {
	case r != nil && r.reset != "" && valuesFollow:
		return resetEvent(block, "", r.reset, r.lastID)
	case r != nil && r.reset != "":
		return resetEvent(block, s.broker.id(st.cursor), r.reset, r.lastID)
	case valuesFollow:
		return &event{frame: sealFrame(eventstream.AppendEnd(block), chunkRoom)}
	}
	return s.markEvent(block, st.cursor)
}

// markEvent returns an event that ends a block with a position mark.
func (s *shard) markEvent(block []byte, position uint64) *event {
	return &event{frame: sealFrame(eventstream.AppendMark(block, s.position(position)), chunkRoom)}
}

// appendRetry appends the reconnection time, randomized by up to a quarter of
// its configured value in either direction.
func (s *shard) appendRetry(dst []byte) []byte {
	return eventstream.AppendRetry(dst, s.cfg.Retry-s.cfg.Retry/4+rand.N(s.cfg.Retry/2+1))
}

// position returns the id for a position mark. It is empty if there is no
// history that a client could resume from.
func (s *shard) position(cursor uint64) string {
	if s.cfg.History.MaxEvents == 0 {
		return ""
	}
	return s.broker.id(cursor)
}
