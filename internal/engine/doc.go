// Package engine reads requests and holds streams on bare descriptors, over
// HTTP/1.1 and HTTP/2, with or without TLS 1.3. A stream costs no goroutine, no
// timer and no buffer: its shard writes to the descriptor directly, without
// blocking, and an epoll set reports clients that hang up and sockets that can be
// written to again. It requires Linux.
//
// # Connections
//
// A [Listener] accepts all connections. A goroutine performs the TLS handshake, if
// there is one. Then the goroutine of an epoll set reads the requests. [Handler]
// handles those for streams, and calls [Engine.TakeOver] to get a [Body] for a
// stream. Requests for other paths over HTTP/2 go to a separate handler. Everything
// else is left to net/http, which gets the connection from [Listener.Accept]
// together with the bytes that were read: other paths and unusual requests over
// HTTP/1.1, connections that begin with a PROXY protocol header, TLS 1.2, and FIPS
// 140 mode. TakeOver can also take a stream over from net/http, over plain HTTP/1.x
// or if the engine has passed the connection on after its handshake.
//
// # Ownership of descriptors
//
// While a request is being read, its descriptor belongs to the goroutine of an epoll
// set. A stream's descriptor belongs to its socket, and the socket to the stream's
// shard: only the shard's goroutine writes to it and closes it, once. The set's
// goroutine reads what clients send. It must not use a descriptor number that has been
// closed and reused in the meantime. So it uses the descriptor of a stream only under
// pollSet.mu, under which descriptors are also closed, and only if the entry for that
// number has the generation that the epoll event carries. Whoever closes a descriptor,
// or leaves it to another owner, sets its field to -1.
//
// The streams of an HTTP/2 connection may belong to any shards. So the connection
// has a mutex that guards its descriptor and its state.
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

// Transport identifies how a stream's bytes reach its client.
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
	// Transport returns how the body is sent.
	Transport() Transport
	// Finish sends as much of the rest of a response that won't have a stream after all
	// as the connection accepts, and closes the body. Use it instead of Write and
	// Close, which share memory with the stream's shard.
	Finish(rest []byte)
	// Attach connects the body to st, which must not have been started yet. It
	// then reports to st when the client hangs up and when the body can accept
	// more. done is called once, when the body is closed. If Attach returns an
	// error, the caller must close the body.
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
	// TLS is the configuration for TLS; nil for plain text. NextProtos must be
	// set.
	TLS *tls.Config
	// Path is the path whose requests the engine reads itself.
	Path string
	// Handler handles them.
	Handler Handler
	// Other handles the other requests over HTTP/2. Those over HTTP/1.1 are left to
	// net/http.
	Other http.Handler
	// HeaderTimeout limits the time until a connection has sent a complete
	// request header.
	HeaderTimeout time.Duration
	// IdleTimeout limits the time between a response and the next request.
	IdleTimeout time.Duration
	// MaxHeader is the maximum size of a request header, in bytes.
	MaxHeader int
	// Guard is notified of connections that net/http never gets.
	Guard Guard
	// Handshake is called after each TLS handshake, concurrently; it may be nil.
	Handshake func(Handshake)
	// Logger gets messages about failed handshakes and handlers that panic.
	Logger *slog.Logger
}

// Handshake describes one TLS handshake.
type Handshake = tlsrecord.Outcome

// Handler handles the requests that the engine reads.
type Handler interface {
	http.Handler
	// Waits reports whether ServeHTTP may wait for something other than a lock.
	// Such a request gets a goroutine.
	Waits(r *http.Request) bool
}

// Guard makes decisions about connections, and counts those that send no request.
type Guard interface {
	// Direct reports whether the first bytes from addr come from the client. If
	// not, they are a header with the client's address.
	Direct(addr net.Addr) bool
	// Trusted reports whether addr is a proxy, which shares a connection among many
	// clients.
	Trusted(addr net.Addr) bool
	// NoRequest is called for a connection from addr that closes before its first
	// request.
	NoRequest(addr string)
	// TooManyRequests is called for a connection from addr that is closed because
	// the client has sent too many requests, or frames that transfer nothing.
	TooManyRequests(addr string)
}
