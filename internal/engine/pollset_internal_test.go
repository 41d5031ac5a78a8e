//go:build linux

package engine

import (
	"testing"

	"golang.org/x/sys/unix"
)

// lingering is an entry that is still in its set when the set is closed.
type lingering struct {
	set        *pollSet
	generation uint32
	err        error // of the use of the epoll set's descriptor by expire
}

func (l *lingering) ready(uint32)   { l.set.mu.Unlock() }
func (l *lingering) number() uint32 { return l.generation }

func (l *lingering) expire() {
	_, l.err = unix.FcntlInt(uintptr(l.set.fd), unix.F_GETFD, 0)
}

// TestPollSetClose closes a set that still has a connection. Until that is closed,
// the epoll set's descriptor must stay open, since others could get its number.
func TestPollSetClose(t *testing.T) { //nolint:paralleltest // Another test might get the number.
	e, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	fd, peer := socketpair(t)
	defer unix.Close(fd)
	defer unix.Close(peer)

	l := &lingering{set: e.sets[0]}
	l.set.mu.Lock()
	err = l.set.add(unix.EPOLL_CTL_ADD, int32(fd), l, &l.generation, readable)
	l.set.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}

	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if l.err != nil {
		t.Errorf("the epoll set's descriptor was closed too early: %v", l.err)
	}
	if _, err := unix.FcntlInt(uintptr(l.set.fd), unix.F_GETFD, 0); err == nil {
		t.Error("the epoll set's descriptor is still open")
	}
}
