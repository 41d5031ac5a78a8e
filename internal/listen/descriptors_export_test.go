//go:build linux

package listen

import "net"

// Duplicate closes conn, and returns a descriptor that keeps the connection open.
func Duplicate(conn net.Conn) (fd int, err error) { return duplicate(conn) }
