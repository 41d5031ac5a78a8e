package listen

import "time"

// Limits for HTTP servers.
const (
	headerTimeout = 10 * time.Second // for a request's header, and for the TLS handshake
	bodyTimeout   = 10 * time.Second
	idleTimeout   = 30 * time.Second
	pingTimeout   = 15 * time.Second
	maxHeader     = 32 << 10 // a token in the query, one in a cookie, and what browsers add

	// maxHTTP2Streams limits the open requests of one connection. Each event
	// stream among them counts as a connection.
	maxHTTP2Streams = 250
)
