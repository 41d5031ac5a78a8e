package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// slots are the descriptors that the browsers' listener may use. Each accepted
// connection holds one until it is closed, whatever becomes of it: so however
// many connect, and whether they ask for anything or not, the descriptors of
// the control plane are not touched.
type slots struct {
	max   int
	taken atomic.Int64 // slots since the start

	mu     sync.Mutex
	free   sync.Cond // signalled when used falls or closed is set
	used   int
	closed bool
}

func newSlots(n int) *slots {
	s := &slots{max: n}
	s.free.L = &s.mu
	return s
}

// acquire waits for a free slot. It reports false once closed.
func (s *slots) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.used >= s.max && !s.closed {
		s.free.Wait()
	}
	if s.closed {
		return false
	}
	s.used++
	s.taken.Add(1)
	return true
}

// inUse returns how many slots are taken, and how many there are.
func (s *slots) inUse() (used, allowed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.max
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.free.Signal()
}

// close ends every acquire, now and later.
func (s *slots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.free.Broadcast()
}

// slotListener accepts a connection only when there is a slot for it; the
// system keeps the others waiting.
type slotListener struct {
	net.Listener // of TCP

	slots   *slots
	release func()       // slots.release, made once and not for each connection
	present atomic.Int64 // connections that net/http has: not closed, and not taken over
	credit  int          // connections that may be accepted at once although there are many
}

func newSlotListener(listener net.Listener, s *slots) *slotListener {
	return &slotListener{Listener: listener, slots: s, release: s.release}
}

const (
	// crowd is how many connections net/http may have before accepting takes
	// breaks. Each costs it a goroutine and buffers, some 15 KB, until it is
	// taken over for a stream: in a storm of connections that is what memory
	// would be spent on.
	crowd = 256
	// crowdPace is how many connections are accepted between two breaks: a
	// crowd that never asks for anything, or one of streams that nobody takes
	// over, then delays others by little.
	crowdPace = 8
	crowdRest = 200 * time.Microsecond
)

// rest takes a break if there are many connections, so that they are dealt
// with before there are more.
func (l *slotListener) rest() {
	if l.present.Load() < crowd {
		l.credit = crowdPace
		return
	}
	if l.credit--; l.credit <= 0 {
		time.Sleep(crowdRest)
		l.credit = crowdPace
	}
}

// Accept waits for a slot, then for a connection.
func (l *slotListener) Accept() (net.Conn, error) {
	l.rest()
	if !l.slots.acquire() {
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.slots.release()
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		l.slots.release()
		return nil, errors.Join(fmt.Errorf("a %T is no connection of TCP", conn), conn.Close())
	}
	l.present.Add(1)
	return &slotConn{TCPConn: tcp, listener: l}, nil
}

// Close also ends an Accept that waits for a slot.
func (l *slotListener) Close() error {
	l.slots.close()
	return l.Listener.Close()
}

// slotConn is a connection and its slot.
type slotConn struct {
	*net.TCPConn

	listener *slotListener
	gone     atomic.Bool // the slot was released or taken over
	asked    atomic.Bool // a request is being served, and no header is waited for
}

// Read closes a connection whose request is late. net/http takes a first line
// that was cut off by the time-out for the whole of it, and says 400: to an
// EventSource that is final, whereas it comes back after a connection that ends.
// The client need not have been slow, if this process was held up.
func (c *slotConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err != nil && !c.asked.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.Close()
	}
	return n, err
}

// serves tells whether a request is being served. Where net/http doesn't say
// so, which is with HTTP/2, no read has a time-out.
func (c *slotConn) serves(asked bool) { c.asked.Store(asked) }

// Close also releases the slot, unless it was taken over.
func (c *slotConn) Close() error {
	err := c.TCPConn.Close()
	if release := c.TakeOver(); release != nil {
		release()
	}
	return err
}

// TakeOver parts the slot from the connection, for whoever goes on with a
// duplicate of its descriptor: the slot is then held until release is called,
// once. All connections of a listener share one release. After Close there is
// no slot to take over, and release is nil.
func (c *slotConn) TakeOver() (release func()) {
	if c.gone.Swap(true) {
		return nil
	}
	c.listener.present.Add(-1)
	return c.listener.release
}
