package ssehttp

import (
	"slices"
	"strings"

	"golang.org/x/time/rate"
)

// rules are what requests are admitted by. They are replaced, and never
// changed: a request goes by those that it finds, from its beginning to its
// end.
type rules struct {
	cfg      Config
	verifier Verifier
	origins  origins

	allowedHeaders string // the value of Access-Control-Allow-Headers

	clients clients
	rate    *rate.Limiter // of connects; nil for no bound
}

// Reconfigure has requests that come from now on admitted by cfg and v. Path,
// Engine and Logger count for nothing there: they stay what they were.
//
// Streams that are open stay, even where there are more of them than a new
// limit allows. A limit on users or addresses where there was none counts the
// streams that are opened from now on.
func (h *Handler) Reconfigure(cfg Config, v Verifier) {
	next := &rules{
		cfg:      cfg,
		verifier: v,
		origins:  newOrigins(cfg.AllowedOrigins),

		allowedHeaders: strings.Join(slices.Concat([]string{
			"Last-Event-ID", "Authorization", "Cache-Control",
			// Tracing libraries add these to requests by themselves.
			"traceparent", "tracestate", "baggage", "sentry-trace",
		}, cfg.AllowedHeaders), ", "),

		clients: clients{cfg.TrustedProxies, cfg.ProxyHeader},
	}
	before := h.rules.Load()
	switch n := cfg.MaxConnectsPerSecond; {
	case n == 0:
	case before != nil && before.cfg.MaxConnectsPerSecond == n:
		next.rate = before.rate // with what it has left
	default:
		next.rate = rate.NewLimiter(rate.Limit(n), n)
	}
	h.rules.Store(next)
}
