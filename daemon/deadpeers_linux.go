package daemon

import (
	"math"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loseDeadPeers makes the connections that a listener accepts fail when what
// was sent is not acknowledged for this long. Keep-alive does not see to it: it
// asks idle connections only, and heartbeats keep those of vanished browsers
// from being idle, for the quarter of an hour that Linux goes on sending.
//
// What is set on the listening socket holds for those that it accepts, so that
// a connection costs no system calls for it: package net would make four.
func loseDeadPeers(lc *net.ListenConfig, after time.Duration) {
	lc.KeepAlive = -1
	lc.Control = func(_, _ string, socket syscall.RawConn) error {
		return socket.Control(func(fd uintptr) { setDeadPeers(fd, after) })
	}
}

// loseDeadPeersOf does the same for a socket that listens already.
func loseDeadPeersOf(listener *net.TCPListener, after time.Duration) error {
	return onSocket(listener, func(fd int) error {
		setDeadPeers(uintptr(fd), after)
		return nil
	})
}

func setDeadPeers(fd uintptr, after time.Duration) {
	setUserTimeout(fd, after)
	set := func(level, option, value int) { _ = unix.SetsockoptInt(int(fd), level, option, value) }
	set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveSeconds)
	set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveSeconds)
}

// loseDeadPeersAfter sets anew how long that is, for the connections that a
// listener accepts from now on.
func loseDeadPeersAfter(listener *net.TCPListener, after time.Duration) {
	if socket, err := listener.SyscallConn(); err == nil {
		_ = socket.Control(func(fd uintptr) { setUserTimeout(fd, after) })
	}
}

// setUserTimeout says nothing of a failure: a system that does not know an
// option serves all the same.
func setUserTimeout(fd uintptr, after time.Duration) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(after.Milliseconds(), math.MaxInt32)))
}

// keepAliveSeconds is how long a connection may be idle before the system asks
// whether the peer is still there, and how long it waits for an answer.
const keepAliveSeconds = 15
