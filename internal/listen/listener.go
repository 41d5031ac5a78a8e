package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Socket describes a socket to open.
type Socket struct {
	// Key is the setting that holds the address. Errors name it.
	Key string

	// Addr is HOST:PORT or, if PeerTimeout is 0, unix:PATH (see [SocketPath]).
	Addr string

	// Mode holds the permissions of a socket file.
	Mode fs.FileMode

	// PeerTimeout, if positive, breaks accepted connections whose peer has
	// acknowledged nothing for this long. If it is set, the socket must use TCP.
	PeerTimeout time.Duration

	// ReusePort allows other processes run by the same user to listen on the same
	// address (SO_REUSEPORT). It works for TCP on systems where [CanReusePort] is
	// true.
	ReusePort bool

	// Inherited, if not nil, is used instead of a newly opened socket. Other processes
	// may have it open too.
	Inherited net.Listener
}

// Listener is a listening socket. Its methods may be called concurrently, but
// HandOver only once.
type Listener struct {
	socket net.Listener

	// shared is set if other processes may accept on the address: on the same
	// socket, which was inherited, or on their own sockets (reusePort). In that
	// case, Accept and HandOver take turns.
	shared, reusePort bool

	turn      chan struct{} // holds a token while a goroutine accepts
	closed    chan struct{}
	closeOnce sync.Once

	acceptor acceptor // for AcceptDescriptor

	pending []net.Conn // accepted by HandOver, for Accept; guarded by turn
}

// Open opens the socket that s describes. The caller must close the result.
func Open(ctx context.Context, s Socket) (*Listener, error) {
	socket, err := s.open(ctx)
	if err != nil {
		return nil, err
	}

	l := &Listener{
		socket:    socket,
		shared:    s.ReusePort || s.Inherited != nil,
		reusePort: s.ReusePort && s.Inherited == nil,
		turn:      make(chan struct{}, 1),
		closed:    make(chan struct{}),
	}

	switch {
	case s.Inherited != nil:
		if err := boundAccept(socket); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: inherited socket: %w", s.Key, err), socket.Close())
		}
	case s.ReusePort:
		// An earlier process may have steered connections to another socket.
		unsteer(socket)
	}

	return l, nil
}

func (s Socket) open(ctx context.Context) (net.Listener, error) {
	switch path, isFile, err := SocketPath(s.Addr); {
	case s.Inherited != nil:
		return s.inherit()
	case isFile && s.PeerTimeout == 0:
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", s.Key, s.Addr, err)
		}
		return listenUnix(ctx, s.Key, path, s.Mode)
	default:
		return s.listenTCP(ctx)
	}
}

func (s Socket) inherit() (net.Listener, error) {
	if s.PeerTimeout == 0 {
		return s.Inherited, nil
	}

	tcp, ok := s.Inherited.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("%s: the inherited socket is of type %s; want a TCP socket", s.Key, s.Inherited.Addr().Network())
	}

	if err := setPeerOptions(tcp, s.PeerTimeout); err != nil {
		return nil, fmt.Errorf("%s: inherited socket: %w", s.Key, err)
	}
	return tcp, nil
}

func (s Socket) listenTCP(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	if s.PeerTimeout > 0 {
		closeDeadPeers(&lc, s.PeerTimeout)
		// Multipath TCP sockets lack the option, and browsers don't use Multipath TCP.
		lc.SetMultipathTCP(false)
	}
	if s.ReusePort {
		withReusePort(&lc)
	}

	socket, err := lc.Listen(ctx, tcpNetwork(s.Addr), s.Addr)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", s.Key, s.Addr, cause(err))
	}
	return socket, nil
}

// withReusePort allows other processes to listen on the address that lc listens on.
func withReusePort(lc *net.ListenConfig) {
	before := lc.Control

	lc.Control = func(network, addr string, socket syscall.RawConn) error {
		if before != nil {
			if err := before(network, addr, socket); err != nil {
				return err
			}
		}

		var err error
		if ctlErr := socket.Control(func(fd uintptr) { err = reusePort(fd) }); ctlErr != nil {
			return ctlErr
		}
		return err
	}

	// Connections can't be steered among Multipath TCP sockets.
	lc.SetMultipathTCP(false)
}

// tcpNetwork returns "tcp4" for an IPv4 address, because package net would otherwise
// bind 0.0.0.0 to all IPv6 addresses as well.
func tcpNetwork(addr string) string {
	at, err := netip.ParseAddrPort(addr)
	if err == nil && at.Addr().Is4() {
		return "tcp4"
	}
	return "tcp"
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (conn net.Conn, err error) {
	err = l.inTurn(func(pending net.Conn) error {
		if conn = pending; conn != nil {
			return nil
		}
		conn, err = l.socket.Accept()
		return err
	})
	return conn, err
}

// inTurn calls accept once HandOver isn't accepting. pending is a connection that
// HandOver has accepted, or nil. accept must use it if there is one.
func (l *Listener) inTurn(accept func(pending net.Conn) error) error {
	if !l.shared {
		return accept(nil)
	}

	for {
		select {
		case l.turn <- struct{}{}:
		case <-l.closed:
			return net.ErrClosed
		}

		var pending net.Conn
		if n := len(l.pending); n > 0 {
			pending = l.pending[n-1]
			l.pending = l.pending[:n-1]
		}
		err := accept(pending)
		l.releaseTurn()
		// HandOver sets a deadline to get its turn.
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// Close closes the socket in this process. It may be called more than once.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	err := errors.Join(l.socket.Close(), l.acceptor.close())
	l.closePending()

	return err
}

// releaseTurn lets another goroutine accept.
func (l *Listener) releaseTurn() {
	<-l.turn

	select {
	case <-l.closed:
		l.closePending()
	default:
	}
}

// closePending closes the pending connections. If Accept or HandOver has the turn,
// releaseTurn does that later. If HandOver keeps the turn, it has accepted no
// connection.
func (l *Listener) closePending() {
	select {
	case l.turn <- struct{}{}:
		for _, conn := range l.pending {
			_ = conn.Close()
		}
		l.pending = nil
		<-l.turn
	default:
	}
}

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// Address returns the address in the form used in settings: HOST:PORT, or unix:/PATH.
func (l *Listener) Address() string { return Address(l.socket) }

// SetPeerTimeout changes [Socket.PeerTimeout] for connections accepted from now on. It
// does nothing on sockets that don't use TCP.
func (l *Listener) SetPeerTimeout(after time.Duration) {
	if tcp, ok := l.socket.(*net.TCPListener); ok {
		setPeerTimeout(tcp, after)
	}
}

// Address returns the address of a listener in the form used in settings: HOST:PORT, or
// unix:/PATH.
func Address(listener net.Listener) string {
	if file, ok := listener.(*socketFile); ok {
		return unixScheme + file.path
	}
	if listener.Addr().Network() == "unix" {
		return unixScheme + listener.Addr().String()
	}
	return listener.Addr().String()
}

// Reachable returns the HOST:PORT at which processes on this machine can reach a
// listener bound to addr, even if addr is unspecified.
func Reachable(addr string) string {
	bound, err := netip.ParseAddrPort(addr)
	if err != nil || !bound.Addr().IsUnspecified() {
		return addr
	}

	host := "localhost"
	if bound.Addr().Is4() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(bound.Port())))
}
