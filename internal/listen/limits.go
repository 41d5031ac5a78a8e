package listen

import "time"

// Limits for HTTP servers.
const (
	// HeaderTimeout limits the time that a request's header or a TLS handshake may
	// take.
	HeaderTimeout = 10 * time.Second
	// IdleTimeout limits the time between a response and the next request.
	IdleTimeout = 30 * time.Second
	// MaxHeader is the maximum size of a request's header, in bytes. It leaves room for
	// a token in the query, another in a cookie, and the headers that browsers add.
	MaxHeader = 32 << 10

	bodyTimeout = 10 * time.Second
	pingTimeout = 15 * time.Second

	// maxHTTP2Streams limits the open requests of one connection. Each event
	// stream among them counts as a connection.
	maxHTTP2Streams = 250
)
