package ssehttp

import (
	"net/http"
	"sync/atomic"

	"github.com/peald/peald/internal/engine"
)

// transport is the way in which a stream's bytes reach its client.
type transport uint8

const (
	byEpoll transport = iota // HTTP/1.1 without TLS, through the engine
	byHTTP1                  // HTTP/1.1 without TLS, through net/http
	byTLS                    // HTTP/1.1 over TLS
	byHTTP2                  // with or without TLS

	transports
)

// String returns the transport's name in metrics and logs.
func (t transport) String() string { return [...]string{"epoll", "http1", "tls", "http2"}[t] }

// heldAs returns the transport of a stream that the engine holds.
func heldAs(t engine.Transport) transport {
	return [...]transport{engine.Plain: byEpoll, engine.TLS: byTLS, engine.HTTP2: byHTTP2}[t]
}

// transportOf returns the transport of a stream that uses net/http.
func transportOf(r *http.Request) transport {
	switch {
	case r.ProtoMajor > 1:
		return byHTTP2
	case r.TLS != nil:
		return byTLS
	}
	return byHTTP1
}

// openBy counts the open streams of one engine by transport.
type openBy [transports]atomic.Int64

func (o *openBy) total() (n int64) {
	for t := range o {
		n += o[t].Load()
	}
	return n
}

// Transports returns the number of open streams by transport: "epoll", "http1",
// "tls" and "http2".
func (h *Handler) Transports() map[string]int64 {
	found := make(map[string]int64, transports)
	for t := range transports {
		found[t.String()] = h.held[t].Load() + h.served[t].Load()
	}
	return found
}

// Engines returns the number of open streams by engine: "epoll" and "nethttp".
func (h *Handler) Engines() map[string]int64 {
	return map[string]int64{string(Epoll): h.held.total(), string(NetHTTP): h.served.total()}
}

// HTTP2Connections returns the number of HTTP/2 connections that the engine
// holds, with or without streams.
func (h *Handler) HTTP2Connections() int64 {
	if h.engine == nil {
		return 0
	}
	return h.engine.HTTP2Connections()
}
