package engine

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/tlsrecord"
)

// tlsSocket is the sink of a stream over TLS on a bare descriptor.
type tlsSocket struct {
	socket

	tls session // the receiving side is guarded by pollSet.mu

	// sealed holds records that the socket hasn't accepted completely. The last byte of
	// their plaintext counts as not accepted, so the broker tries again. The broker
	// drops none of the events in these records, since it has begun to write the last
	// one; see nextRecord.
	sealed []byte
}

// maxPartial is the maximum size of an incomplete record that is kept for a stream.
// Any message that a client has a reason to send is smaller.
const maxPartial = 1 << 10

// Transport implements [Body].
func (s *tlsSocket) Transport() Transport { return TLS }

// Attach implements [Body].
func (s *tlsSocket) Attach(st *broker.Stream, done func()) error {
	s.stream, s.done = st, done

	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	events := uint32(readable)
	if s.tls.ended {
		events |= unix.EPOLLOUT // reported at once
	}
	return s.set.add(s.attachOp(), s.fd, s, &s.generation, events)
}

// ready implements [entry].
func (s *tlsSocket) ready(events uint32) {
	gone := s.tls.ended
	if !gone && events&(unix.EPOLLIN|hungUp) != 0 {
		gone = !s.discard() || events&hungUp != 0
	}
	s.set.mu.Unlock()

	switch {
	case gone:
		s.stream.HangUp()
	case events&unix.EPOLLOUT != 0:
		s.stream.Ready()
	}
}

// discard reads what the client has sent and discards everything but TLS messages. It
// returns false if the client has closed the connection, or has sent too much or
// something invalid. The caller holds pollSet.mu.
func (s *tlsSocket) discard() bool {
	for s.discarded < maxDiscarded {
		input := s.set.input[:copy(s.set.input, s.tls.sealed)]
		n, errno := receive(s.fd, s.set.input[len(input):])
		switch {
		case errno == unix.EAGAIN:
			return true
		case errno != 0 || n == 0:
			return false
		}
		s.discarded += int32(n)
		_, err := s.tls.open(s.set.plain[:0], s.set.input[:len(input)+n])
		if err != nil || len(s.tls.sealed) > maxPartial {
			return false
		}
	}
	return false
}

// Write implements [broker.Sink]. It fills and encrypts one record after another, as
// long as the socket accepts each of them completely.
func (s *tlsSocket) Write(pieces [][]byte) (int, error) {
	buf := &s.set.engine.shards[s.stream.Shard()]
	skip := 0
	if len(s.sealed) > 0 {
		if sent, err := s.writeSealed(buf); !sent || err != nil {
			return 0, err
		}
		skip = 1
	}

	total := 0
	for len(pieces) > 0 {
		record, rest, size := buf.nextRecord(pieces, skip)
		pieces, skip = rest, 0
		buf.sealed = s.tls.layer.Seal(buf.sealed[:0], record)
		clear(record)

		n, err := write(s.fd, [][]byte{buf.sealed}, buf)
		if err != nil {
			return total, err
		}
		if n < len(buf.sealed) {
			s.sealed = bytes.Clone(buf.sealed[n:])
			return total + size - 1, s.watchFull()
		}
		total += size
	}
	return total, nil
}

// writeSealed writes s.sealed and reports whether the socket has accepted all of
// it.
func (s *tlsSocket) writeSealed(buf *scratch) (bool, error) {
	n, err := write(s.fd, [][]byte{s.sealed}, buf)
	if err != nil {
		return false, err
	}
	if s.sealed = s.sealed[n:]; len(s.sealed) > 0 {
		return false, s.watchFull()
	}
	s.sealed = nil
	return true, nil
}

// nextRecord splits off the pieces for one record. The first skip bytes count towards
// size, but aren't part of the record. The result is valid until the next call.
//
// A piece is an event or the rest of one, and a record never ends one byte into a
// piece. Otherwise, while that byte counts as not accepted, none of the event would
// count as written. The broker could then drop the event or put another one before it.
// Every event is longer than one byte.
func (b *scratch) nextRecord(pieces [][]byte, skip int) (record, rest [][]byte, size int) {
	record = b.record[:0]
	for len(pieces) > 0 && size < tlsrecord.MaxPlaintext {
		piece := pieces[0]
		n := min(len(piece), tlsrecord.MaxPlaintext-size)
		if n == 1 && n < len(piece) && size > 0 {
			break
		}
		record = append(record, piece[min(skip, n):n])
		skip = max(skip-n, 0)
		size += n
		if n < len(piece) {
			pieces[0] = piece[n:]
			break
		}
		pieces = pieces[1:]
	}
	b.record = record
	return record, pieces, size
}

// Finish implements [Body].
func (s *tlsSocket) Finish(rest []byte) {
	sealed := s.tls.layer.Seal(nil, [][]byte{rest})
	if n, err := write(s.fd, [][]byte{sealed}, nil); err == nil {
		s.sealed = sealed[n:]
	}
	s.Close(broker.Shutdown)
}

// Close implements [broker.Sink].
func (s *tlsSocket) Close(broker.Reason) {
	s.abandon()
	s.done()
}

// abandon closes the connection without calling done. A client that has received the
// whole last record also gets close_notify.
func (s *tlsSocket) abandon() {
	s.set.mu.Lock()
	if len(s.sealed) == 0 {
		_, _ = write(s.fd, [][]byte{s.tls.closeNotify(nil)}, nil)
	}
	s.tls.layer.Wipe()
	s.set.mu.Unlock()

	s.socket.abandon()
}
