package listen

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/pires/go-proxyproto"
)

// proxyListener reads the PROXY protocol header, which holds the client's address, on
// connections from trusted proxies. If any other peer sends such a header, it is
// treated as a bad request.
type proxyListener struct {
	net.Listener

	proxies networks // the proxies that must send the header
}

// Accept doesn't wait for the header, which is read with the request.
func (l *proxyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || !l.proxies.contain(conn.RemoteAddr()) {
		return conn, err
	}

	withHeader := proxyproto.NewConn(conn, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(HeaderTimeout))

	return &proxiedConn{Conn: withHeader, raw: conn}, nil
}

// proxiedConn is a connection whose addresses come from its PROXY protocol header. It
// forwards the methods that the stream engine needs to the raw connection.
type proxiedConn struct {
	*proxyproto.Conn

	raw net.Conn
}

// SyscallConn implements [syscall.Conn].
func (c *proxiedConn) SyscallConn() (syscall.RawConn, error) {
	if raw, ok := c.raw.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, syscall.EINVAL
}

// TakeOver detaches the slot from the connection, like [slotConn.TakeOver].
func (c *proxiedConn) TakeOver() (release func()) {
	if raw, ok := c.raw.(interface{ TakeOver() (release func()) }); ok {
		return raw.TakeOver()
	}
	return nil
}

// underlying returns the accepted connection beneath TLS and the PROXY protocol.
func underlying(conn net.Conn) net.Conn {
	for {
		c, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = c.NetConn()
	}
	if c, ok := conn.(*proxiedConn); ok {
		conn = c.raw
	}
	return conn
}

// networks is a set of networks that can be replaced while it is in use. The
// zero value is empty.
type networks struct {
	current atomic.Pointer[[]netip.Prefix]
}

func (n *networks) set(list []netip.Prefix) { n.current.Store(&list) }

// contain reports whether an address is in one of the networks.
func (n *networks) contain(addr net.Addr) bool {
	list := n.current.Load()
	if list == nil || len(*list) == 0 {
		return false
	}

	from, err := netip.ParseAddrPort(addr.String())

	return err == nil && slices.ContainsFunc(*list, func(p netip.Prefix) bool {
		return p.Contains(from.Addr().Unmap().WithZone(""))
	})
}
