package engine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pollSet is an epoll set with a goroutine that waits for its events.
type pollSet struct {
	engine *Engine
	epoll  *os.File // registered with Go's poller, so that waiting uses no thread
	raw    syscall.RawConn
	fd     int
	ended  sync.WaitGroup
	input  []byte // the bytes that the set's goroutine is reading
	plain  []byte // the same bytes, decrypted

	mu         sync.Mutex
	entries    map[int32]entry // by descriptor
	generation uint32          // of the last entry
	timeouts   []*timeout
	wake       time.Time // when the first timeout expires; zero for never
	closing    bool      // no connection may wait for a request any more
	stopped    bool      // close has been called
}

// inputSize is the maximum number of bytes read at once. It exceeds the maximum
// size of a request header.
const inputSize = 64 << 10

// entry is the user of a descriptor in the set.
type entry interface {
	// ready handles an epoll event. The set's goroutine calls it with
	// pollSet.mu locked, and ready unlocks it.
	ready(events uint32)
	// number returns the entry's generation.
	number() uint32
}

const (
	readable = unix.EPOLLIN | unix.EPOLLRDHUP
	hungUp   = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
)

func newPollSet(e *Engine) (*pollSet, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll set: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("make epoll set non-blocking: %w", err), unix.Close(fd))
	}

	set := &pollSet{engine: e, epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd, entries: make(map[int32]entry), input: make([]byte, inputSize), plain: make([]byte, 2*inputSize)}
	if set.raw, err = set.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("poll epoll set: %w", err), set.epoll.Close())
	}
	set.ended.Go(set.run)
	return set, nil
}

// close stops the set's goroutine, and closes the remaining connections.
func (s *pollSet) close() error {
	s.mu.Lock()
	s.stopped = true
	s.wakeAt(time.Time{})
	s.mu.Unlock()
	s.ended.Wait()

	s.mu.Lock()
	left := slices.Collect(maps.Values(s.entries))
	s.mu.Unlock()
	for _, e := range left {
		if c, ok := e.(expirer); ok {
			c.expire() // It has no streams.
		}
	}
	// The epoll set must stay open for as long as there are connections.
	return s.epoll.Close()
}

// isStopped reports whether close has been called.
func (s *pollSet) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// add adds a descriptor, and sets the generation of its entry. op is EPOLL_CTL_MOD if
// the epoll set already has the descriptor. The caller holds mu.
func (s *pollSet) add(op int, fd int32, e entry, generation *uint32, events uint32) error {
	s.generation++
	*generation = s.generation
	s.entries[fd] = e
	err := s.watch(op, fd, s.generation, events)
	if err != nil {
		delete(s.entries, fd)
	}
	return err
}

// drop removes a descriptor without closing it. The caller holds mu.
func (s *pollSet) drop(fd int32, generation uint32) {
	if e := s.entries[fd]; e != nil && e.number() == generation {
		delete(s.entries, fd)
		_ = unix.EpollCtl(s.fd, unix.EPOLL_CTL_DEL, int(fd), nil)
	}
}

// watch sets the events that the set reports for a descriptor. Events are
// edge-triggered: each is reported once.
func (s *pollSet) watch(op int, fd int32, generation, events uint32) error {
	err := unix.EpollCtl(s.fd, op, int(fd), &unix.EpollEvent{
		Events: events | unix.EPOLLET, Fd: fd, Pad: int32(generation),
	})
	if err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// remove removes a descriptor and closes it. The kernel still sends the data in the
// socket's buffer. Other connections and files may get the same number, so remove sets
// *fd to -1, which makes every later system call fail.
func (s *pollSet) remove(fd *int32, generation uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[*fd]; e != nil && e.number() == generation {
		delete(s.entries, *fd)
	}
	_ = unix.Close(int(*fd)) // also removes it from the epoll set
	*fd = -1
}

// run waits for events until the set is stopped.
func (s *pollSet) run() {
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := s.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return err != nil && !errors.Is(err, unix.EINTR) || n > 0
		})
		if errors.Is(err, os.ErrDeadlineExceeded) && !s.isStopped() {
			s.expire()
			continue
		}
		if err != nil {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			s.on(ev)
		}
	}
}

// on handles an event.
func (s *pollSet) on(ev unix.EpollEvent) {
	s.mu.Lock()
	e := s.entries[ev.Fd]
	if e == nil || e.number() != uint32(ev.Pad) {
		s.mu.Unlock()
		return // the descriptor was closed in the meantime
	}
	e.ready(ev.Events)
}
