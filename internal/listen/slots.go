package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// slots limits the file descriptors that browsers' connections may use. Each accepted
// connection holds a slot until it is closed. That way, the control plane keeps its
// descriptors no matter how many browsers connect, and whether or not they send
// requests.
type slots struct {
	limit    int
	acquired atomic.Int64 // so far

	mu     sync.Mutex
	free   sync.Cond // signaled when used falls or closed is set
	used   int
	closed bool
}

func newSlots(limit int) *slots {
	s := &slots{limit: limit}
	s.free.L = &s.mu

	return s
}

// acquire waits for a free slot. It returns false once s is closed.
func (s *slots) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	for s.used >= s.limit && !s.closed {
		s.free.Wait()
	}
	if s.closed {
		return false
	}

	s.used++
	s.acquired.Add(1)

	return true
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.used--
	s.free.Signal()
}

// inUse returns how many slots are in use, and how many there are.
func (s *slots) inUse() (used, limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.used, s.limit
}

// close makes all current and future calls of acquire return false.
func (s *slots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.closed = true
	s.free.Broadcast()
}

const (
	// While crowd or more connections have no stream, Accept pauses now and then. Until
	// a stream takes over a connection, the connection may need a goroutine and
	// buffers, either for a handshake or because net/http serves it. With net/http,
	// these take about 15 KB. In a burst of connections, they would account for most of
	// the memory.
	crowd = 256

	// pauseEvery is the number of connections accepted between two pauses. It
	// keeps the delay small if the crowd never sends a request, or consists of
	// streams that aren't taken over.
	pauseEvery = 8
	pause      = 200 * time.Microsecond
)

// slotListener accepts a connection only if there is a slot for it. The system
// queues all other connections.
type slotListener struct {
	net.Listener // a TCP listener

	slots   *slots
	release func()       // slots.release, created once instead of for each connection
	serving atomic.Int64 // connections that are neither closed nor taken over
	credit  int          // connections that may be accepted before the next pause
}

func newSlotListener(listener net.Listener, s *slots) *slotListener {
	return &slotListener{Listener: listener, slots: s, release: s.release}
}

// pace pauses if many connections have no stream, so that some of them are served
// before more are accepted.
func (l *slotListener) pace() {
	if l.serving.Load() < crowd {
		l.credit = pauseEvery
		return
	}

	if l.credit--; l.credit <= 0 {
		time.Sleep(pause)
		l.credit = pauseEvery
	}
}

// Accept waits for a slot, then for a connection.
func (l *slotListener) Accept() (net.Conn, error) {
	l.pace()

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
		return nil, errors.Join(fmt.Errorf("unexpected connection type %T; want TCP", conn), conn.Close())
	}

	l.serving.Add(1)

	return &slotConn{TCPConn: tcp, listener: l}, nil
}

// Close also makes an Accept that is waiting for a slot return.
func (l *slotListener) Close() error {
	l.slots.close()
	return l.Listener.Close()
}

// slotConn is a connection that holds a slot.
type slotConn struct {
	*net.TCPConn

	listener *slotListener
	remote   net.Addr    // if TCPConn has none; nil otherwise
	left     atomic.Bool // the connection has been closed, or its slot has been taken over
	active   atomic.Bool // a request is being served, so reads don't wait for a header
}

// RemoteAddr implements [net.Conn]. It never returns nil.
func (c *slotConn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.TCPConn.RemoteAddr()
}

// Read closes a connection whose request header arrives too late. Otherwise
// net/http would treat the part that arrived as the whole request line and respond
// with 400. An EventSource gives up on a 400, but reconnects if the connection is
// closed. The client isn't necessarily slow: this process may have stalled.
func (c *slotConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err != nil && !c.active.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.Close()
	}
	return n, err
}

// setActive records whether a request is being served. For HTTP/2, where
// net/http doesn't report it, no read has a deadline.
func (c *slotConn) setActive(active bool) { c.active.Store(active) }

// Close also releases the slot, unless the slot has been taken over.
func (c *slotConn) Close() error {
	err := c.TCPConn.Close()
	if release := c.TakeOver(); release != nil {
		release()
	}
	return err
}

// TakeOver detaches the slot from the connection, for a caller that has duplicated the
// connection's descriptor. The slot is then held until the caller calls release, which
// it must do exactly once. All connections of a listener share one release function.
// After Close, there is no slot to take over, and release is nil.
func (c *slotConn) TakeOver() (release func()) {
	if c.left.Swap(true) {
		return nil
	}
	c.listener.serving.Add(-1)

	return c.listener.release
}
