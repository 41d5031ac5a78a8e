package daemon

import (
	"net/http"

	"github.com/peald/peald/internal/console"
)

// withConsole has the console's page answer for its own paths, and rest for
// all others.
func withConsole(cfg Config, sse string, rest http.Handler) (http.Handler, error) {
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
		rest.ServeHTTP(w, r)
	}), nil
}
