package listen

import "time"

// Limits for HTTP servers.
const (
	// HeaderTimeout limits the time for a request's header, and for the TLS
	// handshake.
	HeaderTimeout = 10 * time.Second
	// IdleTimeout limits the time between a response and the next request.
	IdleTimeout = 30 * time.Second
	// MaxHeader is the maximum size of a request's header, in bytes. It has room
	// for a token in the query, one in a cookie, and what browsers add.
	MaxHeader = 32 << 10

	bodyTimeout = 10 * time.Second
	pingTimeout = 15 * time.Second

	// maxHTTP2Streams limits the open requests of one connection. Each event
	// stream among them counts as a connection.
	maxHTTP2Streams = 250
)
