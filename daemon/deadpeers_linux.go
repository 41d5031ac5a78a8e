package daemon

import (
	"math"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loseDeadPeers makes the connections that a listener accepts fail when what
// was sent is not acknowledged for this long. Keep-alive does not see to it: it
// asks idle connections only, and heartbeats keep those of vanished browsers
// from being idle, for the quarter of an hour that Linux goes on sending.
func loseDeadPeers(after time.Duration) func(network, address string, socket syscall.RawConn) error {
	return func(_, _ string, socket syscall.RawConn) error {
		return socket.Control(func(fd uintptr) {
			// A system that does not know the option serves all the same.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(after.Milliseconds(), math.MaxInt32)))
		})
	}
}
