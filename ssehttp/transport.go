package ssehttp

import (
	"net/http"
	"sync/atomic"
)

// transport is how a stream's bytes get to its client.
type transport uint8

const (
	byEpoll transport = iota // HTTP/1.1 without TLS, as a bare descriptor
	byHTTP1                  // the same with a goroutine of net/http
	byTLS                    // HTTP/1.1 over TLS
	byHTTP2                  // with TLS or without

	transports
)

// String returns the transport's name in figures.
func (t transport) String() string { return [...]string{"epoll", "http1", "tls", "http2"}[t] }

// transportOf is that of a stream on net/http's own path.
func transportOf(r *http.Request) transport {
	switch {
	case r.ProtoMajor > 1:
		return byHTTP2
	case r.TLS != nil:
		return byTLS
	}
	return byHTTP1
}

// openBy counts the streams that are open, by their transports.
type openBy [transports]atomic.Int64

// Transports returns how many streams are open, by the names of the ways that
// their bytes get to clients: "epoll", "http1", "tls" and "http2".
func (h *Handler) Transports() map[string]int64 {
	found := make(map[string]int64, transports)
	for t := range transports {
		found[t.String()] = h.openBy[t].Load()
	}
	return found
}
