package listen

import (
	"math"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepAliveSeconds is the idle time after which the system probes whether the
// peer is still there, and the time between two probes.
const keepAliveSeconds = 15

// closeDeadPeers makes the listeners of lc break an accepted connection once sent data
// has remained unacknowledged for the given time. Keep-alive doesn't do that, because
// it probes only idle connections. After a browser has vanished, heartbeats keep its
// connection from being idle for the quarter of an hour during which Linux retransmits.
//
// Accepted connections inherit the options of the listening socket. Setting them there
// costs no system calls per connection, whereas package net would make four.
func closeDeadPeers(lc *net.ListenConfig, after time.Duration) {
	lc.KeepAlive = -1
	lc.Control = func(_, _ string, socket syscall.RawConn) error {
		return socket.Control(func(fd uintptr) { setOptions(fd, after) })
	}
}

// setPeerOptions does what closeDeadPeers does for a socket that is already
// listening.
func setPeerOptions(listener *net.TCPListener, after time.Duration) error {
	return onSocket(listener, func(fd int) error {
		setOptions(uintptr(fd), after)
		return nil
	})
}

// setPeerTimeout changes how long a peer may go without acknowledging anything,
// for connections that the listener accepts from now on.
func setPeerTimeout(listener *net.TCPListener, after time.Duration) {
	_ = onSocket(listener, func(fd int) error { // It fails only if the socket is closed.
		setUserTimeout(uintptr(fd), after)
		return nil
	})
}

func setOptions(fd uintptr, after time.Duration) {
	setUserTimeout(fd, after)

	set := func(level, option, value int) { _ = unix.SetsockoptInt(int(fd), level, option, value) }
	set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // as package net does
	set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveSeconds)
	set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveSeconds)
}

// setUserTimeout ignores errors, because the daemon also runs on systems that don't
// support the option.
func setUserTimeout(fd uintptr, after time.Duration) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(after.Milliseconds(), math.MaxInt32)))
}
