package ssehttp

import (
	"slices"
	"strings"

	"golang.org/x/time/rate"
)

// rules determines which requests are admitted. It is replaced as a whole and never
// modified, so each request uses the rules in effect when it started.
type rules struct {
	cfg      Config
	verifier Verifier
	origins  origins

	allowedHeaders string // the value of Access-Control-Allow-Headers

	clients clients
	rate    *rate.Limiter // of new streams; nil for no limit
}

// Reconfigure applies cfg and v to new requests. It ignores Path, Elsewhere,
// Engine and Logger.
//
// Streams stay open even if there are more than a new limit allows. If there has been
// no limit per user or per address until now, only streams opened from now on count
// towards the new limit.
func (h *Handler) Reconfigure(cfg Config, v Verifier) {
	next := &rules{
		cfg:      cfg,
		verifier: v,
		origins:  newOrigins(cfg.AllowedOrigins),

		allowedHeaders: strings.Join(slices.Concat([]string{
			"Last-Event-ID", "Authorization", "Cache-Control",
			// Tracing libraries add these to requests on their own.
			"traceparent", "tracestate", "baggage", "sentry-trace",
		}, cfg.AllowedHeaders), ", "),

		clients: clients{cfg.TrustedProxies, cfg.ProxyHeader},
	}

	before := h.rules.Load()
	switch n := cfg.MaxConnectsPerSecond; {
	case n == 0:
	case before != nil && before.cfg.MaxConnectsPerSecond == n:
		next.rate = before.rate // keep its remaining tokens
	default:
		next.rate = rate.NewLimiter(rate.Limit(n), n)
	}
	h.rules.Store(next)
}
