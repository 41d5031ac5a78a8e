package broker

import (
	"math/rand/v2"

	"github.com/peald/peald/internal/eventstream"
)

// greeting returns a stream's first block. It holds the reconnection time and
// either the position mark that the stream starts from, or a reset with the reason
// why the stream can't resume.
func (s *shard) greeting(cursor uint64, from *resumption) *event {
	block := s.appendRetry(newBlock())
	if from != nil && from.reset != "" {
		return resetEvent(block, s.broker.id(cursor), from.reset, from.lastID)
	}
	return &event{frame: sealFrame(eventstream.AppendMark(block, s.position(cursor)), chunkRoom)}
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
