package ssehttp

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/peald/peald/internal/engine"
)

// ListenConfig configures [Handler.Listen].
type ListenConfig struct {
	// TLS is the TLS configuration, or nil for plain text. Its NextProtos field must be
	// set.
	TLS *tls.Config
	// HeaderTimeout is the time within which a client must send a complete request
	// header.
	HeaderTimeout time.Duration
	// IdleTimeout limits the time between a response and the next request.
	IdleTimeout time.Duration
	// MaxHeader is the maximum size of a request header, in bytes.
	MaxHeader int
	// Other handles HTTP/2 requests for other paths.
	Other http.Handler
	// Guard makes decisions about connections, and is notified of those that net/http
	// never gets.
	Guard engine.Guard
}

// Listen returns a listener that accepts the connections of l and serves the requests
// for streams on them. Its Accept method returns the other connections, which a server
// for h must serve. With [NetHTTP], Listen returns l.
func (h *Handler) Listen(l net.Listener, cfg ListenConfig) net.Listener {
	if h.engine == nil {
		return l
	}
	return h.engine.Listen(l, engine.ListenConfig{
		TLS:           cfg.TLS,
		Path:          h.path,
		Handler:       h,
		Other:         cfg.Other,
		HeaderTimeout: cfg.HeaderTimeout,
		IdleTimeout:   cfg.IdleTimeout,
		MaxHeader:     cfg.MaxHeader,
		Guard:         cfg.Guard,
		Handshake:     h.handshakes.observe,
		Logger:        h.log,
	})
}

// Waits reports whether ServeHTTP may wait for the application, for keys, or for
// the other nodes of a cluster.
func (h *Handler) Waits(r *http.Request) bool {
	cfg, verifier := h.rules.Load().cfg, h.rules.Load().verifier
	switch {
	case cfg.Application != nil, verifier != nil && verifier.Waits():
		return true
	default:
		if !h.broker.MayAwait() {
			return false
		}
		from, rej := startOf(r.Header, r.URL.Query())
		return rej == nil && from.lastEventID != ""
	}
}
