package daemon

import (
	"net"
	"sync"
	"sync/atomic"
)

// connections are the open ones of a listener. gRPC needs them kept for it: its
// Stop waits for those that have not finished their handshake, and closes none
// of them.
type connections struct {
	net.Listener

	mu     sync.Mutex
	open   map[*connection]struct{}
	ending bool // what is accepted from now on is closed
}

func newConnections(listener net.Listener) *connections {
	return &connections{Listener: listener, open: map[*connection]struct{}{}}
}

// Accept waits for a connection.
func (c *connections) Accept() (net.Conn, error) {
	raw, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: raw, of: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = struct{}{}
	if c.ending {
		_ = raw.Close()
	}
	return conn, nil
}

// closeSilent closes the connections on which nothing was ever received.
func (c *connections) closeSilent() {
	c.closeIf(func(conn *connection) bool { return !conn.spoke.Load() })
}

// closeAll closes all connections.
func (c *connections) closeAll() {
	c.closeIf(func(*connection) bool { return true })
}

func (c *connections) closeIf(condition func(*connection) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	for conn := range c.open {
		if condition(conn) {
			_ = conn.Conn.Close()
		}
	}
}

type connection struct {
	net.Conn

	of    *connections
	spoke atomic.Bool
}

// Read notes that the other side has said something.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.spoke.Load() {
		c.spoke.Store(true)
	}
	return n, err
}

// Close also forgets the connection.
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
