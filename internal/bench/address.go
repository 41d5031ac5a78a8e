package bench

import (
	"crypto/tls"
	"fmt"
	"net/url"

	"golang.org/x/net/http2"
)

// schemePort returns the default port of an http or https URL.
func schemePort(address *url.URL) string {
	if address.Scheme == "https" {
		return "443"
	}
	return "80"
}

// tlsConfig returns the configuration for connections to address, or nil for
// plain text. The base may be nil.
func tlsConfig(base *tls.Config, address *url.URL, overHTTP2 bool) *tls.Config {
	if address.Scheme != "https" {
		return nil
	}
	config := base.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.ServerName == "" {
		config.ServerName = address.Hostname()
	}
	config.NextProtos = []string{"http/1.1"}
	if overHTTP2 {
		config.NextProtos = []string{http2.NextProtoTLS}
	}
	return config
}

// parseTrialURL returns the address of the streams of a trial.
func parseTrialURL(text string) (*url.URL, error) {
	address, err := url.Parse(text)
	if err != nil || (address.Scheme != "http" && address.Scheme != "https") {
		return nil, fmt.Errorf("url: invalid URL %q; want an http or https URL", text)
	}
	return address, nil
}
