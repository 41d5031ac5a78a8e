// Package engine reads requests and holds streams on bare file descriptors, over
// HTTP/1.1 and HTTP/2, with or without TLS 1.3. A stream needs no goroutine, no timer
// and no buffer: its shard writes to the descriptor directly, without blocking. An
// epoll set reports when clients hang up and when sockets can be written to again. The
// package requires Linux.
//
// # Connections
//
// A [Listener] accepts all connections. With TLS, a separate goroutine performs the
// handshake. After that, the goroutine of an epoll set reads the requests. A [Handler]
// handles the requests for streams, and calls [Engine.TakeOver] to get a [Body] for a
// stream. Over HTTP/2, requests for other paths go to a separate handler. Everything
// else is left to net/http: other paths and unusual requests over HTTP/1.1, connections
// that begin with a PROXY protocol header, TLS 1.2, and FIPS 140 mode. net/http gets
// the connection from [Listener.Accept], together with the bytes that have already been
// read. TakeOver can also take over a stream from net/http, either over plain HTTP/1.x
// or on a connection that the engine has passed on after its handshake.
//
// # Ownership of descriptors
//
// While a request is being read, its descriptor belongs to the goroutine of an epoll
// set. A stream's descriptor belongs to its socket, and the socket to the stream's
// shard: only the shard's goroutine writes to it and closes it, once. The set's
// goroutine reads what clients send. It must not use a descriptor number that has been
// closed and reused in the meantime. So it uses a stream's descriptor only while it
// holds pollSet.mu, and only if the entry for that number has the generation that the
// epoll event carries. Descriptors are also closed under pollSet.mu. Code that closes a
// descriptor, or hands it over to another owner, sets the field that held it to -1.
//
// The streams of an HTTP/2 connection may belong to different shards, so a mutex guards
// the connection's descriptor and state.
package engine

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/tlsrecord"
)

// Transport identifies the way in which a stream's bytes reach its client.
type Transport uint8

// The transports.
const (
	Plain Transport = iota // HTTP/1.1 without TLS
	TLS                    // HTTP/1.1 over TLS 1.3
	HTTP2                  // with or without TLS 1.3
)

// Body is the response body of a request that the engine has taken over. It is
// the sink of one stream.
type Body interface {
	broker.Sink
	// Transport returns the transport that the body uses.
	Transport() Transport
	// Finish ends a response that won't have a stream after all: it sends as much of
	// rest as the connection accepts, and closes the body. Use it instead of Write and
	// Close, which share memory with the stream's shard.
	Finish(rest []byte)
	// Attach connects the body to st, which must not have been started yet. From then
	// on, the body notifies st when the client hangs up and when the body can accept
	// more. It calls done once, when it is closed. If Attach returns an error, the
	// caller must close the body.
	Attach(st *broker.Stream, done func()) error
}

// Reusable is a [Body] after which the connection may serve another request.
type Reusable interface {
	Body
	// Reusable reports whether the connection stays open after the response. If not,
	// the response must have the header "Connection: close". Call it before the
	// response is written.
	Reusable() bool
}

// ListenConfig configures [Engine.Listen].
type ListenConfig struct {
	// TLS is the TLS configuration, or nil for plain text. Its NextProtos field must be
	// set.
	TLS *tls.Config
	// Path is the path whose requests the engine reads itself.
	Path string
	// Handler handles the requests for Path.
	Handler Handler
	// Other handles HTTP/2 requests for other paths. Those over HTTP/1.1 are left to
	// net/http.
	Other http.Handler
	// HeaderTimeout limits the time in which a client must send a complete request
	// header.
	HeaderTimeout time.Duration
	// IdleTimeout limits the time between a response and the next request.
	IdleTimeout time.Duration
	// MaxHeader is the maximum size of a request header, in bytes.
	MaxHeader int
	// Guard makes decisions about connections, and is notified of those that net/http
	// never gets.
	Guard Guard
	// Handshake, if not nil, is called after each TLS handshake. Calls may be
	// concurrent.
	Handshake func(Handshake)
	// Logger gets messages about failed handshakes and handlers that panic.
	Logger *slog.Logger
}

// Handshake describes one TLS handshake.
type Handshake = tlsrecord.Outcome

// Handler handles the requests that the engine reads.
type Handler interface {
	http.Handler
	// Waits reports whether ServeHTTP may wait for something other than a lock. If so,
	// the request gets its own goroutine.
	Waits(r *http.Request) bool
}

// Guard makes decisions about connections, and counts those that never send a request.
type Guard interface {
	// Direct reports whether the first bytes from addr come from the client. If not, a
	// header with the client's address comes first.
	Direct(addr net.Addr) bool
	// Trusted reports whether addr is that of a trusted proxy, which shares a
	// connection among many clients.
	Trusted(addr net.Addr) bool
	// NoRequest is called for a connection from addr that is closed before its first
	// request.
	NoRequest(addr string)
	// TooManyRequests is called for a connection from addr that is closed because the
	// client has sent too many requests, or too many frames that transfer nothing.
	TooManyRequests(addr string)
}
