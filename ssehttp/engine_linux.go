package ssehttp

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/broker"
)

// engine holds streams over plain HTTP/1.1 as bare descriptors. net/http parses
// the request; then the engine hijacks the connection, duplicates its descriptor
// and releases everything else. A shard writes to the descriptor directly,
// without blocking. One epoll set per shard reports clients that hang up and
// sockets that can be written to again. An idle stream costs no goroutine, no timer
// and no buffer.
//
// # Ownership of descriptors
//
// After adopt, the descriptor belongs to its socket and the socket to the
// stream's shard. Only the shard's goroutine writes to the descriptor and closes
// it, once: the broker calls no method after Sink.Close. The set's own goroutine
// reads what clients send. It must not use a number that has been closed and
// reused in the meantime. So it uses a descriptor only under pollSet.mu, under which
// descriptors are also closed, and only if the socket with that number has the
// generation that the epoll event carries.
type engine struct {
	sets  []*pollSet
	count streamCount
}

// countedConn is a connection that its listener counts until it is closed. If it
// is taken over, it is counted until the function that TakeOver returned is
// called.
type countedConn interface {
	TakeOver() (release func())
}

// newEngine starts an engine with one epoll set per shard.
func newEngine(shards int, count streamCount) (*engine, error) {
	e := &engine{count: count}
	for range shards {
		set, err := newPollSet(count)
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		e.sets = append(e.sets, set)
	}
	return e, nil
}

// close stops the engine's goroutines. All streams must already be closed.
func (e *engine) close() error {
	var errs []error
	for _, set := range e.sets {
		errs = append(errs, set.close())
	}
	return errors.Join(errs...)
}

// serve opens st on the request's connection and returns immediately. It then
// owns the reservation, and counts the stream in streamCount.all, which the
// caller has increased. If it can't hold the connection, it does nothing and
// returns false. lines may be nil.
func (e *engine) serve(w http.ResponseWriter, r *http.Request, st *broker.Stream, open broker.Opening, res *reservation, retry time.Duration, lines *streamLog) (bool, error) {
	if r.ProtoMajor != 1 || r.TLS != nil {
		return false, nil
	}

	conn, _, err := http.NewResponseController(w).Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		return false, nil
	}
	if err != nil {
		e.count.all.Add(-1)
		res.release()
		return true, fmt.Errorf("hijack connection: %w", err)
	}
	fd, err := duplicate(conn)
	if err != nil {
		e.count.all.Add(-1)
		res.release()
		return true, errors.Join(err, conn.Close())
	}

	var release func()
	if c, ok := conn.(countedConn); ok {
		release = c.TakeOver()
	}
	e.count.epoll.Add(1)
	sock := &socket{set: e.sets[st.Shard()], stream: st, fd: int32(fd), release: release, reservation: res}
	// The duplicate keeps the connection open.
	if err := errors.Join(conn.Close(), sock.set.adopt(sock)); err != nil {
		sock.Close(broker.WriteFailed)
		return true, fmt.Errorf("take over connection: %w", err)
	}
	if err := st.Start(lines.around(sock, byEpoll), open); err != nil {
		// It is too late for another status, so ask the client to retry.
		_, _ = sock.Write([][]byte{open.Head, retryBody(r, retry, open.Chunked)})
		sock.Close(broker.Shutdown)
		return true, err
	}
	return true, nil
}

// duplicate returns a second descriptor for conn's socket.
func duplicate(conn net.Conn) (fd int, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("connection of type %T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("get descriptor: %w", err)
	}
	if ctlErr := raw.Control(func(original uintptr) {
		// The call never blocks, so the scheduler need not know.
		n, _, errno := unix.RawSyscall(unix.SYS_FCNTL, original, unix.F_DUPFD_CLOEXEC, 0)
		if fd = int(n); errno != 0 {
			err = errno
		}
	}); ctlErr != nil {
		return -1, fmt.Errorf("get descriptor: %w", ctlErr)
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor: %w", err)
	}
	return fd, nil
}

// pollSet is an epoll set with a goroutine that waits for its events.
type pollSet struct {
	epoll *os.File // registered with Go's poller, so that waiting uses no thread
	raw   syscall.RawConn
	fd    int
	count streamCount
	ended sync.WaitGroup

	mu         sync.Mutex
	sockets    map[int32]*socket // by descriptor
	generation uint32            // of the last adopted socket

	vector []unix.Iovec // scratch space of the shard's goroutine
}

// maxDiscarded is the number of bytes that a client may send after its request
// before it is disconnected.
const maxDiscarded = 64 << 10

func newPollSet(count streamCount) (*pollSet, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll set: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("make epoll set non-blocking: %w", err), unix.Close(fd))
	}

	set := &pollSet{epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd, count: count, sockets: make(map[int32]*socket)}
	if set.raw, err = set.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("poll epoll set: %w", err), set.epoll.Close())
	}
	set.ended.Go(set.run)
	return set, nil
}

func (s *pollSet) close() error {
	err := s.epoll.Close()
	s.ended.Wait()
	return err
}

// adopt adds a socket to the set.
func (s *pollSet) adopt(sock *socket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	sock.generation = s.generation
	s.sockets[sock.fd] = sock
	if err := s.control(unix.EPOLL_CTL_ADD, sock, unix.EPOLLIN|unix.EPOLLRDHUP); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// control sets the events for which the set watches a socket. Events are
// edge-triggered: each is reported once.
func (s *pollSet) control(op int, sock *socket, events uint32) error {
	return unix.EpollCtl(s.fd, op, int(sock.fd), &unix.EpollEvent{
		Events: events | unix.EPOLLET, Fd: sock.fd, Pad: int32(sock.generation),
	})
}

// run waits for events until the set is closed.
func (s *pollSet) run() {
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := s.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return err != nil && !errors.Is(err, unix.EINTR) || n > 0
		})
		if err != nil {
			return // closed
		}
		for _, ev := range events[:max(n, 0)] {
			s.on(ev)
		}
	}
}

// on handles an event.
func (s *pollSet) on(ev unix.EpollEvent) {
	s.mu.Lock()
	sock := s.sockets[ev.Fd]
	if sock == nil || sock.generation != uint32(ev.Pad) {
		s.mu.Unlock()
		return // the descriptor was closed in the meantime
	}

	gone := ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	if !gone && ev.Events&unix.EPOLLIN != 0 {
		gone = !sock.discard()
	}
	s.mu.Unlock()

	switch {
	case gone:
		sock.stream.HangUp()
	case ev.Events&unix.EPOLLOUT != 0:
		sock.stream.Ready()
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

// socket is the sink of a stream on a bare descriptor. Unless noted, its fields
// either never change or belong to the shard's goroutine.
type socket struct {
	set         *pollSet
	stream      *broker.Stream
	release     func()       // releases the connection's slot at the listener; may be nil
	reservation *reservation // may be nil
	fd          int32
	generation  uint32
	discarded   int32 // bytes sent by the client after its request; belongs to the set
	watched     bool  // the set reports when the socket can be written to
}

// Write implements [broker.Sink] with one write or writev.
func (s *socket) Write(pieces [][]byte) (int, error) {
	for {
		n, errno := s.write(pieces)
		switch errno {
		case 0:
		case unix.EAGAIN:
			n = 0
		case unix.EINTR:
			continue
		default:
			return 0, errno
		}

		total := 0
		for _, p := range pieces {
			total += len(p)
		}
		if n < total && !s.watched {
			if err := s.set.control(unix.EPOLL_CTL_MOD, s, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLOUT); err != nil {
				return n, fmt.Errorf("watch full socket: %w", err)
			}
			s.watched = true
		}
		return n, nil
	}
}

// write makes the system call. It never blocks, so the scheduler need not know
// about it. That saves a tenth of the cost of a delivery.
func (s *socket) write(pieces [][]byte) (int, unix.Errno) {
	if len(pieces) == 1 {
		p := pieces[0]
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		return int(n), errno
	}

	vector := s.set.vector[:0]
	for _, p := range pieces {
		vector = append(vector, unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))})
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(vector))), uintptr(len(vector)))
	clear(vector)
	s.set.vector = vector
	return int(n), errno
}

// Close implements [broker.Sink].
func (s *socket) Close(broker.Reason) {
	s.set.mu.Lock()
	if s.set.sockets[s.fd] == s {
		delete(s.set.sockets, s.fd)
	}
	// The kernel still sends what the socket holds. Closing also removes it
	// from the set.
	_ = unix.Close(int(s.fd))
	s.set.mu.Unlock()

	s.set.count.epoll.Add(-1)
	s.set.count.all.Add(-1)
	s.reservation.release()
	if s.release != nil {
		s.release()
	}
}
