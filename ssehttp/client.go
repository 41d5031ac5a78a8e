package ssehttp

import (
	"net/http"
	"net/netip"
	"strings"
)

// The headers in which a proxy may pass the client's address.
const (
	// ForwardedFor is the header that most proxies write.
	ForwardedFor = "X-Forwarded-For"
	// Forwarded is the header defined in RFC 7239.
	Forwarded = "Forwarded"
)

// clients determines the client addresses of requests.
type clients struct {
	trusted []netip.Prefix
	header  string
}

// addr returns the address of the client: the nearest hop that is not a trusted
// proxy. It ignores the hops behind that one, which anyone can forge, and any
// header that the proxies don't write.
func (c clients) addr(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := remote.Addr().Unmap().WithZone("")
	hops := strings.Join(r.Header.Values(c.header), ",")
	for c.trusts(addr) {
		// Empty elements of a list must be ignored (RFC 9110 §5.6.1.2).
		if hops = strings.TrimRight(hops, ", \t"); hops == "" {
			break
		}
		var hop string
		hop, hops = c.lastHop(hops)
		before, ok := hopAddr(hop)
		if !ok {
			break // hidden or malformed
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

// lastHop splits off the last hop of a list.
func (c clients) lastHop(hops string) (hop, rest string) {
	if c.header == Forwarded {
		return lastForwarded(hops)
	}
	cut := strings.LastIndexByte(hops, ',')
	return strings.TrimSpace(hops[cut+1:]), hops[:max(cut, 0)]
}

// lastForwarded removes the last element from a Forwarded header and returns its "for"
// parameter (RFC 7239 §4). It reads from the end, where trusted proxies write, so a
// quote opened by a client can't hide what they have written.
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

// hopAddr parses an address in the formats that proxies write: with or without a
// port, and for IPv6 with or without brackets.
func hopAddr(text string) (netip.Addr, bool) {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap().WithZone(""), true
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}
