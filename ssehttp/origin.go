package ssehttp

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// origins are those whose pages may read streams (Fetch §3.2, CORS).
type origins struct {
	any     bool
	allowed []string
}

func newOrigins(allowed []string) origins {
	return origins{any: slices.Contains(allowed, "*"), allowed: allowed}
}

// admit sets the CORS headers of a response, refusals included, and says
// whether the request is from an origin that may read it with credentials.
func (o origins) admit(w http.ResponseWriter, r *http.Request) bool {
	header := w.Header()
	header.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || sameOrigin(origin, r) {
		return true
	}
	if slices.ContainsFunc(o.allowed, func(a string) bool { return strings.EqualFold(a, origin) }) {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Allow-Credentials", "true")
		return true
	}
	if o.any {
		// Without credentials: "*" is no leave to act as the page's user.
		header.Set("Access-Control-Allow-Origin", "*")
	}
	return false
}

// sameOrigin compares by host and port: the scheme is not known behind a proxy
// that ends TLS.
func sameOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// preflight answers OPTIONS, be it CORS's or not.
func preflight(w http.ResponseWriter, r *http.Request, originOK bool) {
	header := w.Header()
	header.Set("Allow", allowedMethods)
	if originOK || header.Get("Access-Control-Allow-Origin") != "" {
		if r.Header.Get("Access-Control-Request-Method") != "" {
			header.Set("Access-Control-Allow-Methods", "GET, HEAD")
			header.Set("Access-Control-Allow-Headers", "Last-Event-ID, Authorization, Cache-Control")
			header.Set("Access-Control-Max-Age", "3600")
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
