package ssehttp

import (
	"net/http"
	"net/netip"
)

// ClientOf gives tests the address that a request of remote with the values of
// a header counts for.
func ClientOf(trusted []netip.Prefix, header, remote string, values ...string) netip.Addr {
	r := &http.Request{RemoteAddr: remote, Header: http.Header{header: values}}
	return clients{trusted, header}.addr(r)
}

// Allows says whether an origin matches one of those that are allowed.
func Allows(origin string, allowed ...string) bool { return newOrigins(allowed).allows(origin) }
