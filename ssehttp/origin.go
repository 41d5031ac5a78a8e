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

// origins are those whose pages may read streams (Fetch §3.2, CORS).
type origins struct {
	any      bool
	opaque   bool
	exact    []string
	patterns []originPattern
}

// originPattern is an origin of which the host's beginning is left open.
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

// ASCIIOrigin returns an origin, or a pattern of origins, as browsers send it:
// with the punycode of an internationalized host (UTS #46).
func ASCIIOrigin(origin string) (string, error) {
	if !strings.ContainsFunc(origin, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return origin, nil
	}
	scheme, host, _ := strings.Cut(origin, "://")
	host, isPattern := strings.CutPrefix(host, "*.")
	host, port, hasPort := strings.Cut(host, ":")
	// The options of the URL Standard's "domain to ASCII", not strict.
	profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckJoiners(true), idna.Transitional(false), idna.StrictDomainName(false), idna.VerifyDNSLength(true))
	ascii, err := profile.ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("the host of %q: %w", origin, err)
	}
	if isPattern {
		ascii = "*." + ascii
	}
	if hasPort {
		ascii += ":" + port
	}
	return scheme + "://" + ascii, nil
}

// allows says whether an origin is among those that were named.
func (o origins) allows(origin string) bool {
	return slices.ContainsFunc(o.exact, func(a string) bool { return strings.EqualFold(a, origin) }) ||
		slices.ContainsFunc(o.patterns, func(p originPattern) bool { return p.matches(strings.ToLower(origin)) })
}

// matches asks for at least one label before the domain, and for nothing but
// labels.
func (p originPattern) matches(origin string) bool {
	host, ok := strings.CutPrefix(origin, p.scheme)
	if !ok {
		return false
	}
	labels, ok := strings.CutSuffix(host, p.domain)
	return ok && labels != "" && labels[0] != '.' && !strings.ContainsFunc(labels, func(r rune) bool {
		return r != '-' && r != '_' && r != '.' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// admit sets the CORS headers of a response, refusals included, and says
// whether the request is from a page that may act as its user.
func (o origins) admit(w http.ResponseWriter, r *http.Request) bool {
	header := w.Header()
	header.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		// A page can also ask without CORS, as for an image, and is then told
		// nothing; but the stream would be there, and counted to the user.
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
		// Without credentials: "*" is no leave to act as the page's user.
		header.Set("Access-Control-Allow-Origin", "*")
	case o.opaque && origin == "null":
		// The same, since any page can take this origin.
		header.Set("Access-Control-Allow-Origin", "null")
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
