package broker

import (
	"math/rand/v2"

	"github.com/peald/peald/internal/eventstream"
)

// greeting is a stream's first block: what EventSource is to wait before it
// reconnects, and the position that it starts from; or a reset that says why it
// can't go on from lastID.
func (s *shard) greeting(cursor uint64, reset, lastID string) *event {
	block := s.appendRetry(nil)
	if reset != "" {
		return resetEvent(block, s.broker.id(cursor), reset, lastID)
	}
	return &event{frame: s.appendMark(block, cursor, "open")}
}

// appendRetry appends what EventSource is to wait before it reconnects, up to a
// quarter more or less than configured.
func (s *shard) appendRetry(dst []byte) []byte {
	return eventstream.AppendRetry(dst, s.cfg.Retry-s.cfg.Retry/4+rand.N(s.cfg.Retry/2+1))
}

// appendMark appends the end of a block that tells the position and dispatches
// nothing. Where there is no log a position is of no use, and a comment has to
// do.
func (s *shard) appendMark(dst []byte, cursor uint64, comment string) []byte {
	if s.cfg.History.MaxEvents == 0 {
		dst = eventstream.AppendComment(dst, comment)
	} else {
		dst = eventstream.AppendID(dst, s.broker.id(cursor))
	}
	return eventstream.AppendEnd(dst)
}
