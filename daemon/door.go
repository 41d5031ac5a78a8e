package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// door is a socket that listens on an address on which other processes may
// accept too: on the same socket, where it was inherited, or on one of their
// own (SO_REUSEPORT). Before the daemon ends it leaves the door to them.
//
// A socket that is closed takes along the connections that wait in its queue:
// the system resets them (tcp_migrate_req of Linux, which is off by default,
// keeps most). So nothing is closed while anything may wait there. One of
// several on an address is first passed by (steer), and closed when what was
// under way has been accepted; one that several processes have is only let
// alone, and stays open with the others.
type door struct {
	net.Listener

	reusePort bool // or inherited

	turn   chan struct{} // holds a token while somebody accepts
	closed chan struct{}
	once   sync.Once

	held []net.Conn // accepted by leave; guarded by turn
}

func newDoor(listener net.Listener, reusePort bool) *door {
	return &door{Listener: listener, reusePort: reusePort, turn: make(chan struct{}, 1), closed: make(chan struct{})}
}

// Accept waits for a connection.
func (d *door) Accept() (net.Conn, error) {
	for {
		select {
		case d.turn <- struct{}{}:
		case <-d.closed:
			return nil, net.ErrClosed
		}
		if n := len(d.held); n > 0 {
			conn := d.held[n-1]
			d.held = d.held[:n-1]
			<-d.turn
			return conn, nil
		}
		conn, err := d.Listener.Accept()
		<-d.turn
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, err
		}
		// Somebody wants its turn.
	}
}

// Close closes this process's end of the socket.
func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	err := d.Listener.Close()
	select {
	case d.turn <- struct{}{}:
		for _, conn := range d.held {
			_ = conn.Close()
		}
		d.held = nil
		<-d.turn
	default: // nothing is held by then, or Accept is about to see to it
	}
	return err
}

const (
	// foundWithin is how long a connection may take from its opening to the
	// queue of the socket that it is for.
	foundWithin = 250 * time.Millisecond

	// handshake is how long one may take that a socket has begun to open
	// before it was passed by.
	handshake = time.Second
)

// leave leaves the door to another process, and says whether there is one. If
// so, no new connections come here, but for those that were under way when it
// is by SO_REUSEPORT; these come within handshake.
func (d *door) leave(ctx context.Context) bool {
	if !d.reusePort {
		return d.stopIfShared(ctx)
	}
	// One of the first two sockets of the address is not this one.
	for first := range uint32(2) {
		if steer(d.Listener, first) != nil {
			return false
		}
		if mine, err := d.comesHere(ctx); err != nil {
			break
		} else if !mine {
			return true
		}
	}
	unsteer(d.Listener)
	return false
}

// stopIfShared stops accepting for good, if somebody else does accept on the
// same socket: which is so if a connection leaves the queue without this
// process's doing.
func (d *door) stopIfShared(ctx context.Context) (shared bool) {
	defer d.takeTurn()(&shared)
	conn, err := d.knock(ctx)
	if err != nil {
		return false
	}
	defer conn.Close()
	tick := time.NewTicker(foundWithin / 50)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < foundWithin; <-tick.C {
		if waiting, known := queued(d.Listener); known && waiting == 0 {
			return true
		}
	}
	return false
}

// comesHere says whether a new connection comes to this process. Others that
// come meanwhile are kept for Accept.
func (d *door) comesHere(ctx context.Context) (mine bool, _ error) {
	no := false
	defer d.takeTurn()(&no)
	conn, err := d.knock(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	d.setDeadline(time.Now().Add(foundWithin))
	for {
		came, err := d.Listener.Accept()
		if err != nil {
			return false, nil // it is the deadline
		}
		if sameAddr(came.RemoteAddr(), conn.LocalAddr()) {
			return true, came.Close()
		}
		d.held = append(d.held, came)
	}
}

// takeTurn keeps Accept from accepting, until the function is called that it
// returns; for good if what that is given is true then.
func (d *door) takeTurn() func(keep *bool) {
	d.setDeadline(time.Unix(1, 0))
	d.turn <- struct{}{}
	return func(keep *bool) {
		if !*keep {
			d.setDeadline(time.Time{})
			<-d.turn
		}
	}
}

func (d *door) setDeadline(at time.Time) {
	if l, ok := d.Listener.(interface{ SetDeadline(at time.Time) error }); ok {
		_ = l.SetDeadline(at) // which fails when it is closed
	}
}

// knock opens a connection to the door.
func (d *door) knock(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	return new(net.Dialer).DialContext(ctx, d.Addr().Network(), Reachable(d.Addr().String()))
}

// sameAddr says whether two addresses are, however an IPv4 one is written.
func sameAddr(a, b net.Addr) bool {
	x, errX := netip.ParseAddrPort(a.String())
	y, errY := netip.ParseAddrPort(b.String())
	return errX == nil && errY == nil && x.Port() == y.Port() && x.Addr().Unmap() == y.Addr().Unmap()
}
