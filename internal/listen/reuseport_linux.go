package listen

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CanReusePort reports whether the system spreads connections over all sockets on
// an address, and lets a process choose the socket.
const CanReusePort = true

// reusePort allows other sockets to be bound to the same address as this socket, which
// must not be bound yet.
func reusePort(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// steer makes the system give new connections to one of the sockets that listen on the
// address. index is the socket's place in the order in which they were bound. If there
// is no such socket, the system picks any one of them, as it does by default. steer
// attaches a filter to the whole group of sockets, which requires no privileges
// (socket(7), SO_ATTACH_REUSEPORT_CBPF).
func steer(listener net.Listener, index uint32) error {
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: index}}
	return onSocket(listener, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &filter[0]})
	})
}

// unsteer undoes the effect of steer, even if another process called it.
func unsteer(listener net.Listener) {
	_ = onSocket(listener, func(fd int) error { // It fails if there is nothing to undo.
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	})
}

// boundAccept keeps accept calls from blocking for long. Whether they block is a
// property of the socket, not of the descriptor. A supervisor that passes the
// socket on to the next process, such as systemd without NonBlocking=yes,
// makes it blocking for this process too, until the next process corrects that.
// A call that blocks in the meantime would notice neither a deadline nor Close.
func boundAccept(listener net.Listener) error {
	wait := unix.NsecToTimeval(int64(100 * time.Millisecond))
	return onSocket(listener, func(fd int) error {
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	})
}

// queued returns how many connections in the queue of a TCP socket are waiting to be
// accepted by any process. known reports whether the system provides that number.
func queued(listener net.Listener) (n int, known bool) {
	if listener.Addr().Network() != "tcp" {
		return 0, false
	}

	err := onSocket(listener, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = int(info.Unacked) // For a listening socket, this is the length of the queue.
		}
		return err
	})

	return n, err == nil
}

// onSocket calls do with the descriptor of a listener.
func onSocket(listener net.Listener, do func(fd int) error) error {
	socket, ok := listener.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T has no file descriptor", listener)
	}

	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("access the file descriptor: %w", err)
	}

	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return fmt.Errorf("access the file descriptor: %w", err)
	}
	return done
}
