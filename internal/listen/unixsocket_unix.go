//go:build unix

package listen

import "syscall"

// removePermissions removes all permissions from a socket that isn't bound yet.
// Linux creates the file with no more permissions than the socket has. On other
// systems, this has no effect, and the file briefly has the permissions that the
// umask leaves.
func removePermissions(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0) })
}
