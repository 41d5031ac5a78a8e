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
	sse        *net.TCPListener
	grpc, rest net.Listener
}

func listen(ctx context.Context, cfg Config) (_ listeners, err error) {
	var l listeners
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.sse, err = listenTCP(ctx, forBrowsers(deadAfter(cfg)), "sse.addr", cfg.SSE.Addr); err != nil {
		return l, err
	}
	if l.grpc, err = listenControl(ctx, "grpc.addr", cfg.GRPC.Addr, cfg.GRPC.SocketMode); err != nil {
		return l, err
	}
	l.rest, err = listenControl(ctx, "rest.addr", cfg.REST.Addr, cfg.REST.SocketMode)
	return l, err
}

// listenControl listens where the control plane is to be reached: on a TCP
// address, or on a socket file with mode.
func listenControl(ctx context.Context, key, addr string, mode FileMode) (net.Listener, error) {
	if path, _, ok := socketPath(addr); ok { // it was checked
		return listenUnix(ctx, key, path, mode)
	}
	tcp, err := listenTCP(ctx, net.ListenConfig{}, key, addr)
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
	listener, err := lc.Listen(ctx, "tcp", addr)
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

func (l listeners) addresses() Addresses {
	return Addresses{
		SSE:  l.sse.Addr().String(),
		GRPC: address(l.grpc),
		REST: address(l.rest),
	}
}

// address is where listener is bound to, as a setting has it.
func address(listener net.Listener) string {
	if file, ok := listener.(*socketFile); ok {
		return unixScheme + file.path
	}
	return listener.Addr().String()
}

// close closes those that are open; closing one twice does no harm.
func (l listeners) close() {
	if l.sse != nil {
		_ = l.sse.Close()
	}
	for _, listener := range []net.Listener{l.grpc, l.rest} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}
