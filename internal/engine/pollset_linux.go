package engine

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// pollSet is an epoll set with a goroutine that waits for its events.
type pollSet struct {
	engine *Engine
	epoll  *os.File // registered with Go's poller, so that waiting uses no thread
	raw    syscall.RawConn
	fd     int
	ended  sync.WaitGroup

	mu         sync.Mutex
	entries    map[int32]entry // by descriptor
	generation uint32          // of the last entry
}

// entry is what a descriptor in the set is used for.
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

	set := &pollSet{engine: e, epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd, entries: make(map[int32]entry)}
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

// newGeneration returns a generation for an entry. The caller holds mu.
func (s *pollSet) newGeneration() uint32 {
	s.generation++
	return s.generation
}

// watch sets the events for which the set watches a descriptor. Events are
// edge-triggered: each is reported once.
func (s *pollSet) watch(op int, fd int32, generation, events uint32) error {
	err := unix.EpollCtl(s.fd, op, int(fd), &unix.EpollEvent{
		Events: events | unix.EPOLLET, Fd: fd, Pad: int32(generation), //nolint:gosec // The same bits come back.
	})
	if err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// remove removes e from the set and closes its descriptor. The kernel still
// sends what the socket holds.
func (s *pollSet) remove(fd int32, e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[fd] == e {
		delete(s.entries, fd)
	}
	_ = unix.Close(int(fd)) // also removes it from the epoll set
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
	e := s.entries[ev.Fd]
	if e == nil || e.number() != uint32(ev.Pad) { //nolint:gosec // As in watch.
		s.mu.Unlock()
		return // the descriptor was closed in the meantime
	}
	e.ready(ev.Events)
}
