package daemon

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const canReusePort = true

// reusePort lets other sockets have the address that one is to be bound to.
func reusePort(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// steer has the system give new connections to the index-th of the sockets that
// listen on the address, in the order in which they were bound. Where there is
// no such socket it gives them to any, as it does without being told. What is
// attached is a filter for the whole group, which needs no privilege (socket(7),
// SO_ATTACH_REUSEPORT_CBPF).
func steer(listener net.Listener, index uint32) error {
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: index}}
	return onSocket(listener, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &filter[0]})
	})
}

// unsteer takes back what steer did, whoever did it.
func unsteer(listener net.Listener) {
	_ = onSocket(listener, func(fd int) error { // which fails where there is nothing to take back
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	})
}

// boundAccept keeps a call of accept from blocking for long. Whether calls block
// is a matter of the socket and not of the descriptor, and whoever passes the
// socket on to the next process, as systemd without NonBlocking=yes, has them
// block for this one too, until the next has set it right. One that blocks just
// then would see neither a deadline nor the end.
func boundAccept(listener net.Listener) error {
	wait := unix.NsecToTimeval(int64(100 * time.Millisecond))
	return onSocket(listener, func(fd int) error {
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	})
}

// queued is how many connections wait in the queue of a socket of TCP to be
// accepted, by anybody.
func queued(listener net.Listener) (n int, known bool) {
	if listener.Addr().Network() != "tcp" {
		return 0, false
	}
	err := onSocket(listener, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = int(info.Unacked) // of a socket that listens, it is that
		}
		return err
	})
	return n, err == nil
}

func onSocket(listener net.Listener, do func(fd int) error) error {
	socket, ok := listener.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T has no descriptor", listener)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("reach the descriptor: %w", err)
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return fmt.Errorf("reach the descriptor: %w", err)
	}
	return done
}
