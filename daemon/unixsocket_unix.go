//go:build unix

package daemon

import "syscall"

// closedToAll takes all permissions from a socket that is to be bound. Linux
// makes the file with no more than the socket has; elsewhere this is without
// effect, and for a moment the file has what the umask leaves.
func closedToAll(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0) })
}
