package auth

import (
	"errors"
	"net/http"
	neturl "net/url"

	"golang.org/x/net/http/httpproxy"
)

// ProxyFromEnvironment is the text that selects proxies according to HTTP_PROXY,
// HTTPS_PROXY and NO_PROXY.
const ProxyFromEnvironment = "environment"

// Proxy selects the proxy for a request to the application or to a key server. If nil,
// no proxy is used.
type Proxy func(*http.Request) (*neturl.URL, error)

// ParseProxy returns the Proxy for text, which is the URL of a proxy,
// ProxyFromEnvironment, or empty for no proxy. The error doesn't contain text, because
// it may contain a password.
func ParseProxy(text string) (Proxy, error) {
	switch text {
	case "":
		return nil, nil //nolint:nilnil // no proxy
	case ProxyFromEnvironment:
		choose := httpproxy.FromEnvironment().ProxyFunc()
		return func(r *http.Request) (*neturl.URL, error) { return choose(r.URL) }, nil
	}

	proxy, err := neturl.Parse(text)
	if err != nil || proxy.Hostname() == "" || proxy.Path != "" && proxy.Path != "/" || proxy.RawQuery != "" || proxy.Fragment != "" {
		return nil, errors.New("not the URL of a proxy")
	}

	switch proxy.Scheme {
	case "http", "https", "socks5", "socks5h":
		return http.ProxyURL(proxy), nil
	}

	return nil, errors.New("unknown proxy scheme")
}
