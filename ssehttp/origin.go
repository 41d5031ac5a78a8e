package ssehttp

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// origins holds the origins whose pages may read streams (Fetch §3.2, CORS).
type origins struct {
	any      bool
	opaque   bool
	exact    []string
	patterns []originPattern
}

// originPattern is an origin with a wildcard for the first labels of its host.
type originPattern struct{ scheme, domain string }

func newOrigins(allowed []string) origins {
	var o origins
	for _, a := range allowed {
		if ascii, err := ASCIIOrigin(a); err == nil {
			a = ascii
		}
		scheme, domain, isPattern := strings.Cut(a, "://*.")
		switch {
		case a == "*":
			o.any = true
		case a == "null":
			o.opaque = true
		case isPattern:
			o.patterns = append(o.patterns, originPattern{scheme + "://", "." + domain})
		default:
			o.exact = append(o.exact, a)
		}
	}
	return o
}

// ASCIIOrigin returns an origin, or a pattern of origins, in the form that
// browsers send: an internationalized host is converted to punycode (UTS #46).
func ASCIIOrigin(origin string) (string, error) {
	if !strings.ContainsFunc(origin, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return origin, nil
	}
	scheme, host, _ := strings.Cut(origin, "://")
	host, isPattern := strings.CutPrefix(host, "*.")
	host, port, hasPort := strings.Cut(host, ":")
	// These are the options of the URL Standard's "domain to ASCII" in non-strict mode.
	profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckJoiners(true), idna.Transitional(false), idna.StrictDomainName(false), idna.VerifyDNSLength(true))
	ascii, err := profile.ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("invalid host in %q: %w", origin, err)
	}
	if isPattern {
		ascii = "*." + ascii
	}
	if hasPort {
		ascii += ":" + port
	}
	return scheme + "://" + ascii, nil
}

// allows reports whether an origin is listed or matches a pattern.
func (o origins) allows(origin string) bool {
	return slices.ContainsFunc(o.exact, func(a string) bool { return strings.EqualFold(a, origin) }) ||
		slices.ContainsFunc(o.patterns, func(p originPattern) bool { return p.matches(strings.ToLower(origin)) })
}

// maxHost is the maximum length of a host with its port, in bytes (RFC 1035 §2.3.4).
const maxHost = 253 + len(":65535")

// matches reports whether an origin's host consists of at least one label followed by
// the pattern's domain.
func (p originPattern) matches(origin string) bool {
	host, ok := strings.CutPrefix(origin, p.scheme)
	if !ok || len(host) > maxHost {
		return false // The response repeats an allowed origin.
	}
	labels, ok := strings.CutSuffix(host, p.domain)
	return ok && labels != "" && labels[0] != '.' && !strings.ContainsFunc(labels, func(r rune) bool {
		return r != '-' && r != '_' && r != '.' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// admit sets the CORS headers of a response, including rejections, and reports
// whether the request comes from a page that may act for its user.
func (o origins) admit(w http.ResponseWriter, r *http.Request) bool {
	header := w.Header()
	header.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		// A page can also send a request without CORS, for example to load an image. It
		// can't read the response to such a request, but the stream would still be
		// opened and counted for the user.
		site := r.Header.Get("Sec-Fetch-Site")
		return site != "cross-site" && site != "same-site"
	}

	if sameOrigin(origin, r) {
		return true
	}

	if o.allows(origin) {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Allow-Credentials", "true")
		return true
	}

	switch {
	case o.any:
		// No credentials: "*" doesn't allow a page to act for its user.
		header.Set("Access-Control-Allow-Origin", "*")
	case o.opaque && origin == "null":
		// No credentials either, since any page can have this origin.
		header.Set("Access-Control-Allow-Origin", "null")
	}
	return false
}

// sameOrigin reports whether origin has the request's host and port. It ignores the
// scheme, which is unknown behind a proxy that terminates TLS.
func sameOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// preflight responds to OPTIONS, whether it is a CORS preflight or not.
func preflight(w http.ResponseWriter, r *http.Request, originOK bool, allowedHeaders string) {
	header := w.Header()
	header.Set("Allow", allowedMethods)
	if originOK || header.Get("Access-Control-Allow-Origin") != "" {
		if r.Header.Get("Access-Control-Request-Method") != "" {
			header.Set("Access-Control-Allow-Methods", "GET, HEAD")
			header.Set("Access-Control-Allow-Headers", allowedHeaders)
			header.Set("Access-Control-Max-Age", "3600")
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
