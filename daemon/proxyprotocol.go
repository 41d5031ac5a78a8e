package daemon

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/pires/go-proxyproto"
)

// proxyListener takes from proxies that speak it the PROXY protocol's header,
// which says whom they speak for. From anybody else such a header is a bad
// request.
type proxyListener struct {
	net.Listener

	speakers networks
}

// Accept does not wait for the header, which is read with the request.
func (l *proxyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || !l.speakers.contain(conn.RemoteAddr()) {
		return conn, err
	}
	headed := proxyproto.NewConn(conn, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(headerTimeout))
	return &proxiedConn{Conn: headed, raw: conn}, nil
}

// proxiedConn is a connection whose addresses are those of its header. What
// the stream engine needs is the raw connection's.
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

// TakeOver parts the slot from the connection, as slotConn does.
func (c *proxiedConn) TakeOver() (release func()) {
	if raw, ok := c.raw.(interface{ TakeOver() (release func()) }); ok {
		return raw.TakeOver()
	}
	return nil
}

// networks can be set anew while they are asked. The zero value is none.
type networks struct {
	now atomic.Pointer[[]netip.Prefix]
}

func (n *networks) set(list []netip.Prefix) { n.now.Store(&list) }

// contain says whether an address is in one of the networks.
func (n *networks) contain(addr net.Addr) bool {
	list := n.now.Load()
	if list == nil || len(*list) == 0 {
		return false
	}
	from, err := netip.ParseAddrPort(addr.String())
	return err == nil && slices.ContainsFunc(*list, func(p netip.Prefix) bool {
		return p.Contains(from.Addr().Unmap().WithZone(""))
	})
}
