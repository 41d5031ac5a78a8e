package listen

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
)

// Browsers limits the connections of the listener that browsers connect to, and
// the requests on them. Its methods may be called concurrently.
type Browsers struct {
	log      *slog.Logger
	slots    *slots
	proxies  proxyListener
	requests *requestLimits
}

// NewBrowsers returns a Browsers for a TCP listener. descriptors is the maximum number
// of file descriptors that the listener's connections may use at once. The system
// queues further connections.
func NewBrowsers(listener net.Listener, descriptors int, log *slog.Logger) *Browsers {
	b := &Browsers{log: log, slots: newSlots(descriptors), requests: newRequestLimits(log)}
	b.proxies.Listener = newSlotListener(listener, b.slots)

	return b
}

// Intercept replaces the listener with the one that wrap returns for it. Call it
// before NewServer.
func (b *Browsers) Intercept(wrap func(net.Listener) net.Listener) {
	b.proxies.Listener = wrap(b.proxies.Listener)
}

// Direct reports whether connections from addr begin with a request rather than with a
// PROXY protocol header.
func (b *Browsers) Direct(addr net.Addr) bool { return !b.proxies.proxies.contain(addr) }

// Trusted reports whether addr is that of a trusted proxy.
func (b *Browsers) Trusted(addr net.Addr) bool { return b.requests.trusted.contain(addr) }

// NoRequest counts a connection from addr that was closed before it sent a request.
// Call it only for connections that the server returned by NewServer doesn't know.
func (b *Browsers) NoRequest(addr string) { b.requests.countSilent(addr) }

// TooManyRequests counts a connection from addr that was cut off because it exceeded
// the request rate. Call it only for connections that the server returned by NewServer
// doesn't know.
func (b *Browsers) TooManyRequests(addr string) { b.requests.countCut(context.Background(), addr) }

// NewServer returns a server that serves handler on the listener; tlsConfig is
// nil for plain text.
func (b *Browsers) NewServer(handler http.Handler, tlsConfig *tls.Config) *Server {
	s := NewServer(&b.proxies, b.requests.handler(handler), tlsConfig, b.log)
	s.http.ConnContext, s.closed = b.requests.connContext, b.requests.closed

	return s
}

// Trust replaces the networks of trusted proxies. The request rate on their
// connections isn't limited. If proxyProtocol is true, these connections must begin
// with a PROXY protocol header, which determines their addresses.
func (b *Browsers) Trust(proxies []netip.Prefix, proxyProtocol bool) {
	b.requests.trusted.set(proxies)

	if !proxyProtocol {
		proxies = nil
	}
	b.proxies.proxies.set(proxies)
}

// Descriptors returns how many file descriptors connections use, with or without
// a stream, and how many they may use.
func (b *Browsers) Descriptors() (used, limit int) { return b.slots.inUse() }

// Accepted returns how many connections have been accepted so far.
func (b *Browsers) Accepted() int64 { return b.slots.acquired.Load() }

// Rejected returns how many connections have been rejected so far, by
// cause.
func (b *Browsers) Rejected() map[string]int64 {
	return map[string]int64{
		TooManyRequests: b.requests.cut.Load(),
		NoRequest:       b.requests.silent.Load(),
	}
}
