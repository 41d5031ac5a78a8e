package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/broker"
)

// socket is the sink of a stream on a bare descriptor. Unless noted otherwise, its
// fields either never change or belong to the shard's goroutine.
type socket struct {
	set        *pollSet
	stream     *broker.Stream
	release    func() // releases the connection's slot in the listener; may be nil
	done       func() // called when the socket is closed
	fd         int32  // -1 once it is closed
	generation uint32
	discarded  int32 // bytes sent by the client after its request; guarded by pollSet.mu
	watched    bool  // the set reports when the socket can be written to
	listed     bool  // the epoll set had the descriptor before Attach
}

// maxDiscarded is the number of bytes that a client may send after its request. A
// client that sends more is disconnected.
const maxDiscarded = 64 << 10

// Transport implements [Body].
func (s *socket) Transport() Transport { return Plain }

// Attach implements [Body].
func (s *socket) Attach(st *broker.Stream, done func()) error {
	s.stream, s.done = st, done

	s.set.mu.Lock()
	defer s.set.mu.Unlock()
	return s.set.add(s.attachOp(), s.fd, s, &s.generation, readable)
}

// attachOp returns the operation that adds the socket to the epoll set.
func (s *socket) attachOp() int {
	if s.listed {
		return unix.EPOLL_CTL_MOD
	}
	return unix.EPOLL_CTL_ADD
}

func (s *socket) number() uint32 { return s.generation }

// ready implements [entry].
func (s *socket) ready(events uint32) {
	gone := events&hungUp != 0
	if !gone && events&unix.EPOLLIN != 0 {
		gone = !s.discard()
	}
	s.set.mu.Unlock()

	switch {
	case gone:
		s.stream.HangUp()
	case events&unix.EPOLLOUT != 0:
		s.stream.Ready()
	}
}

// discard reads and discards what the client has sent. It returns false if the
// client has closed the connection or sent too much. The caller holds pollSet.mu.
func (s *socket) discard() bool {
	var none [1]byte
	for s.discarded < maxDiscarded {
		// With MSG_TRUNC, TCP drops the bytes instead of copying them.
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&none[0])),
			maxDiscarded, unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EAGAIN:
			return true
		case errno == unix.EINTR:
		case errno != 0 || n == 0:
			return false
		default:
			s.discarded += int32(n)
		}
	}
	return false
}

// Write implements [broker.Sink] with a single write or writev.
func (s *socket) Write(pieces [][]byte) (int, error) {
	n, err := write(s.fd, pieces, &s.set.engine.shards[s.stream.Shard()])
	if err != nil {
		return 0, err
	}

	total := 0
	for _, p := range pieces {
		total += len(p)
	}
	if n < total {
		return n, s.watchFull()
	}
	return n, nil
}

// watchFull makes the set report when the socket can be written to again.
func (s *socket) watchFull() error {
	if s.watched {
		return nil
	}
	s.watched = true
	return s.set.watch(unix.EPOLL_CTL_MOD, s.fd, s.generation, readable|unix.EPOLLOUT)
}

// write writes pieces to fd and returns how many bytes the socket has accepted: 0 if
// its buffer is full. buf may be nil for a single piece.
func write(fd int32, pieces [][]byte, buf *scratch) (int, error) {
	for {
		n, errno := writeOnce(fd, pieces, buf)
		switch errno {
		case 0:
			return n, nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// writeOnce makes the system call. The call never blocks, so the scheduler needn't know
// about it. That saves a tenth of the cost of a delivery.
func writeOnce(fd int32, pieces [][]byte, buf *scratch) (int, unix.Errno) {
	if len(pieces) == 1 {
		p := pieces[0]
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		return int(n), errno
	}

	vector := buf.vector[:0]
	for _, p := range pieces {
		vector = append(vector, unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))})
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(vector))), uintptr(len(vector)))
	clear(vector)
	buf.vector = vector
	return int(n), errno
}

// Finish implements [Body].
func (s *socket) Finish(rest []byte) {
	_, _ = write(s.fd, [][]byte{rest}, nil) // The client may be gone.
	s.Close(broker.Shutdown)
}

// Close implements [broker.Sink].
func (s *socket) Close(broker.Reason) {
	s.abandon()
	s.done()
}

// abandon closes the connection without calling done.
func (s *socket) abandon() {
	s.set.remove(&s.fd, s.generation)
	if s.release != nil {
		s.release()
	}
}
