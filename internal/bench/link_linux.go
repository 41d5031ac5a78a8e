package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// link is a non-blocking socket. It implements [net.Conn] so that crypto/tls can
// read and write it. The goroutine of a reader owns it.
type link struct {
	fd int32

	// drained is set by a read that emptied the socket or used up the turn. Further
	// reads then fail without a system call.
	drained bool
	turn    int // bytes that the socket may still read until others get a turn

	// pending holds bytes that the socket's send buffer had no space for.
	pending []byte

	// wait, if not nil, suspends a read until the socket is ready, and reports
	// whether it is. Without it, such reads return [notReadyError].
	wait func() bool
}

// notReadyError is the error of a read that would block. It counts as temporary, or
// crypto/tls would return it for all further reads as well.
type notReadyError struct{}

func (notReadyError) Error() string   { return "the socket has no data" }
func (notReadyError) Timeout() bool   { return true }
func (notReadyError) Temporary() bool { return true }

var errInterrupted = errors.New("the measurement has ended")

// ready begins a turn: the socket can be read again.
func (l *link) ready() { l.drained, l.turn = false, turn }

// turn limits what is read from a socket while others wait, in bytes.
const turn = 256 << 10

// Read implements [net.Conn].
func (l *link) Read(p []byte) (int, error) {
	for {
		if l.drained {
			if l.wait == nil {
				return 0, notReadyError{}
			}
			if !l.wait() {
				return 0, errInterrupted
			}
			l.ready()
		}

		n, err := unix.Read(int(l.fd), p)
		switch {
		case errors.Is(err, unix.EAGAIN):
			l.drained = true
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			l.turn -= n
			l.drained = n < len(p) || l.turn <= 0
			return n, nil
		}
	}
}

// Write implements [net.Conn]. It never blocks: flush writes what the socket
// doesn't take.
func (l *link) Write(p []byte) (int, error) {
	// Replies to frames are small. A server that doesn't read a megabyte of them
	// doesn't read at all.
	const maxPending = 1 << 20
	if len(l.pending)+len(p) > maxPending {
		return 0, fmt.Errorf("the server left %d bytes of requests and replies unread", len(l.pending))
	}

	l.pending = append(l.pending, p...)
	if err := l.flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush writes pending bytes until the socket takes no more.
func (l *link) flush() error {
	for len(l.pending) > 0 {
		n, err := unix.Write(int(l.fd), l.pending)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		default:
			l.pending = l.pending[n:]
		}
	}
	l.pending = nil
	return nil
}

// Close implements [net.Conn]. Further calls have no effect.
func (l *link) Close() error {
	if l.fd < 0 {
		return nil
	}
	fd := int(l.fd)
	l.fd = -1
	return unix.Close(fd)
}

// LocalAddr implements [net.Conn].
func (l *link) LocalAddr() net.Addr { return nil }

// RemoteAddr implements [net.Conn].
func (l *link) RemoteAddr() net.Addr { return nil }

// SetDeadline implements [net.Conn]. No call blocks, so there are no deadlines.
func (l *link) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.Conn].
func (l *link) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.Conn].
func (l *link) SetWriteDeadline(time.Time) error { return nil }
