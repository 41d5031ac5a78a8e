package ssehttp

import (
	"net/http"
	"net/netip"
	"strings"
)

// The headers in which a proxy may say whom it speaks for.
const (
	// ForwardedFor is what most proxies write.
	ForwardedFor = "X-Forwarded-For"
	// Forwarded is that of RFC 7239.
	Forwarded = "Forwarded"
)

// clients finds out where requests come from.
type clients struct {
	trusted []netip.Prefix
	header  string
}

// addr is the address of the client: the nearest hop that is no trusted proxy.
// What such a hop itself says of those behind it is worth nothing, and so is a
// header that the proxies don't write.
func (c clients) addr(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := remote.Addr().Unmap().WithZone("")
	hops := strings.Join(r.Header.Values(c.header), ",")
	for c.trusts(addr) {
		// Empty elements of a list are to be ignored (RFC 9110 §5.6.1.2).
		if hops = strings.TrimRight(hops, ", \t"); hops == "" {
			break
		}
		var hop string
		hop, hops = c.lastHop(hops)
		before, ok := hopAddr(hop)
		if !ok {
			break // hidden, or nonsense
		}
		addr = before
	}
	return addr
}

func (c clients) trusts(addr netip.Addr) bool {
	for _, prefix := range c.trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// lastHop takes the hop off the end of a list that was added last.
func (c clients) lastHop(hops string) (hop, rest string) {
	if c.header == Forwarded {
		return lastForwarded(hops)
	}
	cut := strings.LastIndexByte(hops, ',')
	return strings.TrimSpace(hops[cut+1:]), hops[:max(cut, 0)]
}

// lastForwarded takes the last element off a Forwarded header, and returns its
// "for" (RFC 7239 §4). It reads from the end, where trusted proxies write: a
// quote that a client opens at the beginning must not swallow what they say.
func lastForwarded(hops string) (hop, rest string) {
	end, quoted := len(hops), false
	for i := len(hops) - 1; ; i-- {
		if i >= 0 && hops[i] == '"' {
			quoted = !quoted
		}
		if i >= 0 && (quoted || hops[i] != ',' && hops[i] != ';') {
			continue
		}
		name, value, _ := strings.Cut(hops[i+1:end], "=")
		if strings.EqualFold(strings.TrimSpace(name), "for") {
			hop = strings.Trim(strings.TrimSpace(value), `"`)
		}
		end = i
		if i < 0 || hops[i] == ',' {
			return hop, hops[:max(i, 0)]
		}
	}
}

// hopAddr reads an address as proxies write it: with or without a port, IPv6
// with or without brackets.
func hopAddr(text string) (netip.Addr, bool) {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap().WithZone(""), true
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}
