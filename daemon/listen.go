package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Addresses are those that a daemon has bound, each as HOST:PORT or, those of
// the control plane, as unix:/PATH.
type Addresses struct {
	SSE  string `json:"sse"`
	GRPC string `json:"grpc"`
	REST string `json:"rest"`
}

// Reachable is the HOST:PORT under which somebody on this machine finds a
// listener that is bound to addr, be it bound to all addresses.
func Reachable(addr string) string {
	bound, err := netip.ParseAddrPort(addr)
	if err != nil || !bound.Addr().IsUnspecified() {
		return addr
	}
	if bound.Addr().Is4() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(bound.Port())))
	}
	return net.JoinHostPort("localhost", strconv.Itoa(int(bound.Port())))
}

// CurlTarget is what curl is to be told, before a path, to reach a listener of
// HTTP that is bound to addr.
func CurlTarget(addr string) string {
	if path, ok := strings.CutPrefix(addr, unixScheme); ok {
		return "--unix-socket " + path + " http://localhost"
	}
	return "http://" + Reachable(addr)
}

// listeners are a daemon's sockets. They are bound before anything runs, so
// that an address that cannot be had is an error of the start.
type listeners struct {
	sse                  *net.TCPListener
	browsers, grpc, rest net.Listener // of sse, and the control plane's; doors, where others have them too
}

func listen(ctx context.Context, cfg Config, inherited Inherited) (_ listeners, err error) {
	var l listeners
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	share := cfg.SSE.ReusePort
	if inherited.SSE != nil {
		l.sse, err = inherited.listenForBrowsers(cfg)
	} else {
		l.sse, err = listenTCP(ctx, shared(forBrowsers(deadAfter(cfg)), share), "sse.addr", cfg.SSE.Addr)
	}
	if err != nil {
		return l, err
	}
	if l.browsers, err = behindDoor(l.sse, share, inherited.SSE); err != nil {
		return l, err
	}
	if l.grpc = inherited.GRPC; l.grpc == nil {
		if l.grpc, err = listenControl(ctx, "grpc.addr", cfg.GRPC.Addr, cfg.GRPC.SocketMode, share); err != nil {
			return l, err
		}
	}
	if l.grpc, err = behindDoor(l.grpc, share, inherited.GRPC); err != nil {
		return l, err
	}
	if l.rest = inherited.REST; l.rest == nil {
		if l.rest, err = listenControl(ctx, "rest.addr", cfg.REST.Addr, cfg.REST.SocketMode, share); err != nil {
			return l, err
		}
	}
	l.rest, err = behindDoor(l.rest, share, inherited.REST)
	return l, err
}

// behindDoor makes a door of a listener whose address others may have too. What
// an earlier daemon had new connections steered to counts no more.
func behindDoor(listener net.Listener, reusePort bool, inherited net.Listener) (net.Listener, error) {
	switch {
	case inherited != nil:
		if err := boundAccept(listener); err != nil {
			return listener, fmt.Errorf("a socket that was inherited: %w", err)
		}
		return newDoor(listener, false), nil
	case reusePort:
		unsteer(listener)
		return newDoor(listener, true), nil
	default:
		return listener, nil
	}
}

// shared lets other processes listen where lc does, if share is true.
func shared(lc net.ListenConfig, share bool) net.ListenConfig {
	if !share {
		return lc
	}
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
	lc.SetMultipathTCP(false) // whose sockets the system doesn't let itself be told of
	return lc
}

// listenControl listens where the control plane is to be reached: on a TCP
// address, or on a socket file with mode.
func listenControl(ctx context.Context, key, addr string, mode FileMode, share bool) (net.Listener, error) {
	if path, _, ok := socketPath(addr); ok { // it was checked
		return listenUnix(ctx, key, path, mode)
	}
	tcp, err := listenTCP(ctx, shared(net.ListenConfig{}, share), key, addr)
	if err != nil {
		return nil, err
	}
	return tcp, nil
}

// deadAfter is when a browser counts as dead. It is longer than what the broker
// waits for a socket that takes nothing: where a browser is only slow, the
// broker is to see that first.
func deadAfter(cfg Config) time.Duration { return cfg.SSE.WriteTimeout + cfg.SSE.Heartbeat }

// forBrowsers is how to listen for connections that are to fail when their
// peer has been dead for so long.
func forBrowsers(deadAfter time.Duration) net.ListenConfig {
	var lc net.ListenConfig
	loseDeadPeers(&lc, deadAfter)
	// Sockets of Multipath TCP, which browsers don't speak, lack the option.
	lc.SetMultipathTCP(false)
	return lc
}

func listenTCP(ctx context.Context, lc net.ListenConfig, key, addr string) (*net.TCPListener, error) {
	listener, err := lc.Listen(ctx, tcpNetwork(addr), addr)
	if err != nil {
		// Of "listen tcp 127.0.0.1:80: bind: permission denied" the end is
		// news.
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		if call, ok := errors.AsType[*os.SyscallError](err); ok {
			err = call.Err
		}
		return nil, fmt.Errorf("%s %s: %w", key, addr, err)
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s %s: not a TCP address", key, addr), listener.Close())
	}
	return tcp, nil
}

// tcpNetwork returns "tcp4" for an IPv4 address. The net package would also
// bind 0.0.0.0 to all addresses of IPv6.
func tcpNetwork(addr string) string {
	at, err := netip.ParseAddrPort(addr)
	if err == nil && at.Addr().Is4() {
		return "tcp4"
	}

	return "tcp"
}

func (l listeners) addresses() Addresses {
	return Addresses{
		SSE:  l.sse.Addr().String(),
		GRPC: address(l.grpc),
		REST: address(l.rest),
	}
}

// address is where listener is bound to, as a setting has it.
func address(listener net.Listener) string {
	if d, ok := listener.(*door); ok {
		listener = d.Listener
	}
	if file, ok := listener.(*socketFile); ok {
		return unixScheme + file.path
	}
	if listener.Addr().Network() == "unix" {
		return unixScheme + listener.Addr().String()
	}
	return listener.Addr().String()
}

// close closes those that are open; closing one twice does no harm.
func (l listeners) close() {
	if l.sse != nil {
		_ = l.sse.Close()
	}
	for _, listener := range []net.Listener{l.browsers, l.grpc, l.rest} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}
