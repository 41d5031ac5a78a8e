package engine

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// transport is an accepted connection: a [net.Conn] or a *rawConn.
type transport interface {
	RemoteAddr() net.Addr
	Close() error
}

// rawConn is a connection that consists of a bare descriptor.
type rawConn struct {
	listener descriptorListener
	fd       int32 // -1 once another owner has it, or it is closed
	remote   net.Addr
}

// RemoteAddr implements [transport].
func (c *rawConn) RemoteAddr() net.Addr { return c.remote }

// Close implements [transport]. It must be called at most once, and not after
// connFrom or takeDescriptor.
func (c *rawConn) Close() error {
	defer c.listener.Release()
	if err := unix.Close(int(c.take())); err != nil {
		return fmt.Errorf("close socket: %w", err)
	}
	return nil
}

// take returns the descriptor. c must not use it any more.
func (c *rawConn) take() int32 {
	fd := c.fd
	c.fd = -1
	return fd
}

// connFrom returns a [net.Conn] that replaces c.
func connFrom(c transport) (net.Conn, error) {
	switch c := c.(type) {
	case *rawConn:
		return c.listener.Conn(int(c.take()), c.remote)
	case net.Conn:
		return c, nil
	default:
		return nil, errors.Join(fmt.Errorf("unexpected connection type %T", c), c.Close())
	}
}
