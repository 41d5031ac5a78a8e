package daemon

import (
	"net/http"

	"github.com/peald/peald/internal/console"
)

// withConsole returns a handler that serves the console at the console's paths, and
// passes all other requests to next. Sse is the address of the listener that browsers
// connect to.
func withConsole(cfg Config, sse string, next http.Handler) (http.Handler, error) {
	scheme := "http"
	if cfg.SSE.TLS.CertFile != "" {
		scheme = "https"
	}

	page, err := console.New(console.Config{Events: scheme + "://" + Reachable(sse) + cfg.SSE.Path})
	if err != nil {
		return nil, err
	}

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if console.Takes(r.URL.Path) {
			page.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	}), nil
}
