package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptor accepts connections on a listening socket without registering them with Go's
// poller. It has its own descriptor for the socket, because only package net can wait
// on the original one. The zero value is ready to use.
type acceptor struct {
	mu       sync.Mutex
	file     *os.File // nil until the first call of accept
	raw      syscall.RawConn
	deadline time.Time
	closed   bool
}

// open returns the acceptor's own descriptor for a socket.
func (a *acceptor) open(socket *net.TCPListener) (syscall.RawConn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if a.closed {
		return nil, net.ErrClosed
	}
	if a.file != nil {
		return a.raw, nil
	}

	file, err := socket.File()
	if err != nil {
		return nil, acceptError(socket.Addr(), err)
	}
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(a.deadline)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("poll listening socket: %w", err), file.Close())
	}
	a.file, a.raw = file, raw

	return raw, nil
}

// accept accepts a connection and returns its descriptor, which is non-blocking. The
// caller must close it. Errors are those of Accept, or [errors.ErrUnsupported].
func (a *acceptor) accept(socket net.Listener) (fd int, remote net.Addr, err error) {
	tcp, ok := socket.(*net.TCPListener)
	if !ok {
		return -1, nil, fmt.Errorf("accept on a %T: %w", socket, errors.ErrUnsupported)
	}
	raw, err := a.open(tcp)
	if err != nil {
		return -1, nil, err
	}

	var from unix.Sockaddr
	var failed error
	err = raw.Read(func(listening uintptr) bool {
		for {
			fd, from, failed = unix.Accept4(int(listening), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch {
			case errors.Is(failed, unix.EINTR), errors.Is(failed, unix.ECONNABORTED):
			case errors.Is(failed, unix.EAGAIN):
				return false
			default:
				return true
			}
		}
	})
	switch {
	case err != nil && a.isClosed():
		return -1, nil, net.ErrClosed // A RawConn returns an error of its own.
	case err != nil:
		return -1, nil, err
	case failed != nil:
		return -1, nil, acceptError(tcp.Addr(), os.NewSyscallError("accept4", failed))
	}
	return fd, tcpAddr(from), nil
}

// acceptError returns err in the form in which package net's listeners would return it.
// net/http stops serving after any other type of error, even if the process has merely
// run out of descriptors.
func acceptError(addr net.Addr, err error) error {
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call // Temporary doesn't look any deeper.
	}
	return &net.OpError{Op: "accept", Net: addr.Network(), Addr: addr, Err: err}
}

// setDeadline makes accept return [os.ErrDeadlineExceeded] from the given time on.
func (a *acceptor) setDeadline(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.deadline = at
	if a.file != nil {
		_ = a.file.SetReadDeadline(at) // It fails only if the socket is closed.
	}
}

// isClosed reports whether close has been called.
func (a *acceptor) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()

	return a.closed
}

// close closes the descriptor. Afterwards, accept returns [net.ErrClosed].
func (a *acceptor) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.closed = true
	if a.file == nil {
		return nil
	}
	file := a.file
	a.file = nil

	return file.Close()
}

func tcpAddr(from unix.Sockaddr) *net.TCPAddr {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: net.IP(a.Addr[:]), Port: a.Port}
	case *unix.SockaddrInet6:
		addr := &net.TCPAddr{IP: net.IP(a.Addr[:]), Port: a.Port}
		if a.ZoneId == 0 {
			return addr
		}
		addr.Zone = strconv.FormatUint(uint64(a.ZoneId), 10)
		if i, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
			addr.Zone = i.Name
		}
		return addr
	default:
		return new(net.TCPAddr)
	}
}

// duplicate closes conn, and returns a descriptor that keeps the connection open.
func duplicate(conn net.Conn) (fd int, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, errors.Join(fmt.Errorf("a %T has no file descriptor", conn), conn.Close())
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, acceptError(conn.LocalAddr(), errors.Join(err, conn.Close()))
	}

	var failed error
	err = raw.Control(func(original uintptr) {
		fd, failed = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err := errors.Join(err, os.NewSyscallError("fcntl", failed)); err != nil {
		_ = conn.Close()
		return -1, acceptError(conn.LocalAddr(), err)
	}
	if err := conn.Close(); err != nil {
		_ = unix.Close(fd)
		return -1, acceptError(conn.LocalAddr(), err)
	}
	return fd, nil
}

// AcceptDescriptor is like Accept, but returns a non-blocking descriptor that isn't
// registered with Go's poller. The caller must close it. That saves four system calls
// for a caller that has its own epoll set.
func (l *Listener) AcceptDescriptor() (fd int, remote net.Addr, err error) {
	err = l.inTurn(func(pending net.Conn) error {
		if pending == nil {
			fd, remote, err = l.acceptor.accept(l.socket)
			return err
		}
		remote = pending.RemoteAddr()
		fd, err = duplicate(pending)
		return err
	})
	return fd, remote, err
}

// descriptorListener is a listener that can accept connections as bare descriptors.
type descriptorListener interface {
	AcceptDescriptor() (fd int, remote net.Addr, err error)
}

// AcceptDescriptor waits for a slot, then for a connection, and returns the
// connection's descriptor, which is non-blocking and not registered with Go's poller.
// The caller must either pass the descriptor to Conn, or close it and then release its
// slot with Release or with the function that TakeOver returns. The error is
// [errors.ErrUnsupported] if the listener isn't a [Listener] for TCP.
func (l *slotListener) AcceptDescriptor() (fd int, remote net.Addr, err error) {
	l.pace()

	if !l.slots.acquire() {
		return -1, nil, net.ErrClosed
	}

	if from, ok := l.Listener.(descriptorListener); ok {
		fd, remote, err = from.AcceptDescriptor()
	} else {
		err = fmt.Errorf("accept on a %T: %w", l.Listener, errors.ErrUnsupported)
	}
	if err != nil {
		l.slots.release()
		return -1, nil, err
	}

	l.serving.Add(1)

	return fd, remote, nil
}

// Conn returns a connection for a descriptor and a remote address from AcceptDescriptor.
// It takes ownership of the descriptor and its slot, even if it fails.
func (l *slotListener) Conn(fd int, remote net.Addr) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "")
	conn, err := net.FileConn(file)
	if err := errors.Join(err, file.Close()); err != nil {
		l.Release()
		return nil, fmt.Errorf("use descriptor: %w", err)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		l.Release()
		return nil, errors.Join(fmt.Errorf("unexpected connection type %T; want TCP", conn), conn.Close())
	}
	c := &slotConn{TCPConn: tcp, listener: l}
	if tcp.RemoteAddr() == nil {
		c.remote = remote // The client has reset the connection, so the socket has none.
	}
	return c, nil
}

// TakeOver records that a descriptor has a stream. The caller must call release once it
// has closed the descriptor. All connections of a listener share one release function.
func (l *slotListener) TakeOver() (release func()) {
	l.serving.Add(-1)
	return l.release
}

// Release releases the slot of a closed descriptor that had no stream.
func (l *slotListener) Release() { l.TakeOver()() }
