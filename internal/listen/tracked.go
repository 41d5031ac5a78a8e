package listen

import (
	"net"
	"sync"
	"sync/atomic"
)

// Tracked is a listener that keeps track of its open connections, so that a
// server can be shut down without waiting for all of them. gRPC's Stop, for
// example, waits for connections that haven't finished their handshake, and closes
// none of them.
type Tracked struct {
	net.Listener

	mu      sync.Mutex
	open    map[*trackedConn]struct{}
	closing bool // Accept closes new connections
}

// Track returns a listener that keeps track of the connections that l accepts.
func Track(l net.Listener) *Tracked {
	return &Tracked{Listener: l, open: map[*trackedConn]struct{}{}}
}

// Accept implements [net.Listener].
func (t *Tracked) Accept() (net.Conn, error) {
	raw, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}

	conn := &trackedConn{Conn: raw, of: t}

	t.mu.Lock()
	defer t.mu.Unlock()

	t.open[conn] = struct{}{}
	if t.closing {
		_ = raw.Close()
	}

	return conn, nil
}

// CloseSilent closes all connections on which nothing has ever been received, and all
// that are accepted from now on.
func (t *Tracked) CloseSilent() {
	t.closeIf(func(c *trackedConn) bool { return !c.received.Load() })
}

// CloseAll closes all connections, including those that are accepted from now on.
func (t *Tracked) CloseAll() {
	t.closeIf(func(*trackedConn) bool { return true })
}

func (t *Tracked) closeIf(condition func(*trackedConn) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.closing = true
	for conn := range t.open {
		if condition(conn) {
			_ = conn.Conn.Close()
		}
	}
}

// trackedConn is a connection of a Tracked listener.
type trackedConn struct {
	net.Conn

	of       *Tracked
	received atomic.Bool // at least one byte
}

// Read implements [net.Conn].
func (c *trackedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.received.Load() {
		c.received.Store(true)
	}
	return n, err
}

// Close implements [net.Conn].
func (c *trackedConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()

	return c.Conn.Close()
}
