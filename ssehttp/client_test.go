package ssehttp_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/peald/peald/ssehttp"
)

func proxies() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:aa::/48")}
}

func TestClientBehindProxies(t *testing.T) {
	for name, c := range map[string]struct {
		header, remote string
		values         []string
		want           string
	}{
		"no proxy":               {ssehttp.ForwardedFor, "192.0.2.1:80", nil, "192.0.2.1"},
		"header of a stranger":   {ssehttp.ForwardedFor, "192.0.2.1:80", []string{"198.51.100.1"}, "192.0.2.1"},
		"header of a proxy":      {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"198.51.100.1"}, "198.51.100.1"},
		"proxy without a header": {ssehttp.ForwardedFor, "10.1.1.1:80", nil, "10.1.1.1"},
		"two proxies":            {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"198.51.100.1, 10.2.2.2"}, "198.51.100.1"},
		"forged by the client":   {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"203.0.113.9, 198.51.100.1, 10.2.2.2"}, "198.51.100.1"},
		"several lines":          {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"203.0.113.9", "198.51.100.1", "10.2.2.2"}, "198.51.100.1"},
		"only proxies":           {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"10.3.3.3,10.2.2.2"}, "10.3.3.3"},
		"malformed hop":          {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"203.0.113.9, unknown, 10.2.2.2"}, "10.2.2.2"},
		"trailing commas":        {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"203.0.113.9,,"}, "203.0.113.9"},
		"trailing comma":         {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"198.51.100.1,"}, "198.51.100.1"},
		"empty elements":         {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"203.0.113.9, 198.51.100.1, ,\t", "", " ,10.2.2.2, "}, "198.51.100.1"},
		"only empty elements":    {ssehttp.ForwardedFor, "10.1.1.1:80", []string{", ,", ""}, "10.1.1.1"},
		"with ports":             {ssehttp.ForwardedFor, "10.1.1.1:80", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		"IPv6":                   {ssehttp.ForwardedFor, "[2001:db8:aa::1]:80", []string{"2001:db8:bb::7"}, "2001:db8:bb::7"},
		"IPv6 in brackets":       {ssehttp.ForwardedFor, "[2001:db8:aa::1]:80", []string{"[2001:db8:bb::7]:99"}, "2001:db8:bb::7"},
		"IPv4 in IPv6":           {ssehttp.ForwardedFor, "[::ffff:10.1.1.1]:80", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"zone":                   {ssehttp.ForwardedFor, "[2001:db8:aa::1%eth0]:80", []string{"fe80::1%eth0"}, "fe80::1"},
		"header is missing":      {ssehttp.Forwarded, "10.1.1.1:80", nil, "10.1.1.1"},

		"Forwarded":                                   {ssehttp.Forwarded, "10.1.1.1:80", []string{"for=198.51.100.1"}, "198.51.100.1"},
		"Forwarded, trailing comma":                   {ssehttp.Forwarded, "10.1.1.1:80", []string{"for=198.51.100.1,, for=10.2.2.2 , "}, "198.51.100.1"},
		"Forwarded with other parameters":             {ssehttp.Forwarded, "10.1.1.1:80", []string{`proto=https; For="198.51.100.1:47";by=10.1.1.1`}, "198.51.100.1"},
		"Forwarded, IPv6":                             {ssehttp.Forwarded, "10.1.1.1:80", []string{`For="[2001:db8:bb::7]:4711"`}, "2001:db8:bb::7"},
		"Forwarded, two proxies":                      {ssehttp.Forwarded, "10.1.1.1:80", []string{`for=203.0.113.9, for=198.51.100.1`, `for=10.2.2.2;proto=http`}, "198.51.100.1"},
		"Forwarded, hidden":                           {ssehttp.Forwarded, "10.1.1.1:80", []string{`for=203.0.113.9, for=_secret`}, "10.1.1.1"},
		"Forwarded, quotes with commas":               {ssehttp.Forwarded, "10.1.1.1:80", []string{`for=203.0.113.9;host="a,b;for=203.0.113.8", for=198.51.100.1;host="a,b"`}, "198.51.100.1"},
		"Forwarded, unterminated quote":               {ssehttp.Forwarded, "10.1.1.1:80", []string{`for="203.0.113.9, for=198.51.100.1`}, "198.51.100.1"},
		"Forwarded without for":                       {ssehttp.Forwarded, "10.1.1.1:80", []string{`for=203.0.113.9, proto=https`}, "10.1.1.1"},
		"Forwarded, other parameter that ends in for": {ssehttp.Forwarded, "10.1.1.1:80", []string{`xfor=203.0.113.9`}, "10.1.1.1"},
	} {
		if got := ssehttp.ClientOf(proxies(), c.header, c.remote, c.values...); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// FuzzClientBehindProxies checks that whatever a client puts in the header, it
// counts towards the address that its proxy adds.
func FuzzClientBehindProxies(f *testing.F) {
	f.Add("203.0.113.9")
	f.Add(`for=203.0.113.9, for="`)
	f.Add(`for="\"203.0.113.9;by=`)
	f.Add(`"`)
	f.Add(`for="[2001:db8:bb::7]:4711";,;=`)
	f.Fuzz(func(t *testing.T, forged string) {
		const seen = "198.51.100.1"
		for header, added := range map[string]string{
			ssehttp.ForwardedFor: seen,
			ssehttp.Forwarded:    "for=" + seen,
		} {
			for _, values := range [][]string{{forged + ", " + added}, {forged, added}} {
				if got := ssehttp.ClientOf(proxies(), header, "10.1.1.1:80", values...); got.String() != seen {
					t.Errorf("%s: the client of %q is %s", header, values, got)
				}
			}
			got := ssehttp.ClientOf(proxies(), header, "10.1.1.1:80", forged)
			if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
				t.Errorf("%s: the client of %q is %s", header, forged, got)
			}
		}
	})
}

func TestMatchingOrigins(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://a.example.com":                  true,
		"https://a.b.example.com":                true,
		"https://A.example.com":                  true,
		"https://example.com":                    false,
		"https://.example.com":                   false,
		"https://evilexample.com":                false,
		"https://a.example.com.evil.net":         false,
		"https://a.example.com:8443":             false,
		"http://a.example.com":                   false,
		"https://evil.net/.example.com":          false,
		"https://evil.net:1@a.example.com":       false,
		"https://evil.net?.example.com":          false,
		"http://b.example.org:3000":              true,
		"http://b.example.org":                   false,
		"https://exact.net":                      true,
		"https://sub.exact.net":                  false,
		"null":                                   false,
		"":                                       false,
		strings.Repeat("a", 99) + ".example.com": false,
	} {
		if got := ssehttp.Allows(origin, "https://*.example.com", "http://*.example.org:3000", "https://exact.net", "null"); got != want {
			t.Errorf("%q: %t, want %t", origin, got, want)
		}
	}
}

// TestInternationalizedOrigins checks that configured hosts match the punycode
// that browsers send.
func TestInternationalizedOrigins(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://xn--bcher-kva.example":             true,
		"https://xn--strae-oqa.example:8443":        true,
		"https://a.xn--mnchen-3ya.example":          true,
		"https://xn--1ca.xn--mnchen-3ya.example":    true,
		"https://xn--mnchen-3ya.example":            false,
		"https://strasse.example:8443":              false,
		"https://bucher.example":                    false,
		"https://a.xn--mnchen-3ya.example.evil.net": false,
	} {
		if got := ssehttp.Allows(origin, "https://bücher.example", "https://straße.example:8443", "https://*.münchen.example"); got != want {
			t.Errorf("%q: %t, want %t", origin, got, want)
		}
	}
}
