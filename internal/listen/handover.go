package listen

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	// HandOverGrace is how long a handshake that had begun before
	// [Listener.HandOver] may take to complete.
	HandOverGrace = time.Second

	// arrival is how long an opened connection may take to reach the queue of its
	// socket.
	arrival = 250 * time.Millisecond
)

// HandOver stops accepting new connections if another process accepts on the
// same address, and reports whether one does. If none does, nothing changes.
// Accept continues to return connections whose handshake had already begun; with
// SO_REUSEPORT, they arrive within [HandOverGrace].
//
// Closing a socket resets the connections that are waiting in its queue (Linux moves
// most of them to another socket only with tcp_migrate_req, which is off by default).
// So HandOver closes nothing. With SO_REUSEPORT, it makes the system give new
// connections to another process's socket, and the caller closes this one after
// HandOverGrace. If several processes share one socket, this process stops accepting on
// it, and it stays open in the others.
func (l *Listener) HandOver(ctx context.Context) bool {
	switch {
	case !l.shared:
		return false
	case l.reusePort:
		return l.steerAway(ctx)
	default:
		return l.stopIfRead(ctx)
	}
}

// steerAway makes the system give new connections to another process's socket, and
// reports whether there is one.
func (l *Listener) steerAway(ctx context.Context) bool {
	// At most one of the first two sockets on the address is this one.
	for first := range uint32(2) {
		if steer(l.socket, first) != nil {
			return false
		}
		if own, err := l.ownsNext(ctx); err != nil {
			break
		} else if !own {
			return true
		}
	}

	unsteer(l.socket)

	return false
}

// ownsNext opens a connection and reports whether this process accepts it.
// Other connections accepted in the meantime are kept for Accept.
func (l *Listener) ownsNext(ctx context.Context) (bool, error) {
	l.takeTurn()
	defer l.giveTurn()

	conn, err := l.dial(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()

	l.setDeadline(time.Now().Add(arrival))

	for {
		accepted, err := l.socket.Accept()
		if err != nil {
			return false, nil // The deadline has passed.
		}
		if sameAddr(accepted.RemoteAddr(), conn.LocalAddr()) {
			return true, accepted.Close()
		}
		l.pending = append(l.pending, accepted)
	}
}

// stopIfRead stops accepting for good if another process accepts on the same socket,
// and reports whether one does. If a connection leaves the queue while this process
// isn't accepting, another process has accepted it.
func (l *Listener) stopIfRead(ctx context.Context) bool {
	l.takeTurn()

	if l.isRead(ctx) {
		return true // and keeps the turn
	}

	l.giveTurn()

	return false
}

func (l *Listener) isRead(ctx context.Context) bool {
	conn, err := l.dial(ctx)
	if err != nil {
		return false
	}
	defer conn.Close()

	tick := time.NewTicker(arrival / 50)
	defer tick.Stop()

	for start := time.Now(); time.Since(start) < arrival; <-tick.C {
		if waiting, known := queued(l.socket); known && waiting == 0 {
			return true
		}
	}

	return false
}

// takeTurn prevents Accept from accepting until giveTurn is called.
func (l *Listener) takeTurn() {
	l.setDeadline(time.Unix(1, 0))
	l.turn <- struct{}{}
}

func (l *Listener) giveTurn() {
	l.setDeadline(time.Time{})
	l.releaseTurn()
}

func (l *Listener) setDeadline(at time.Time) {
	if socket, ok := l.socket.(interface{ SetDeadline(at time.Time) error }); ok {
		_ = socket.SetDeadline(at) // It fails only if the socket is closed.
	}
	l.acceptor.setDeadline(at)
}

// dial opens a connection to the listener's address.
func (l *Listener) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, HandOverGrace)
	defer cancel()

	return new(net.Dialer).DialContext(ctx, l.Addr().Network(), Reachable(l.Addr().String()))
}

// sameAddr reports whether two addresses are the same. An IPv4 address equals the IPv6
// address to which it is mapped.
func sameAddr(a, b net.Addr) bool {
	x, errX := netip.ParseAddrPort(a.String())
	y, errY := netip.ParseAddrPort(b.String())

	return errX == nil && errY == nil && x.Port() == y.Port() && x.Addr().Unmap() == y.Addr().Unmap()
}
