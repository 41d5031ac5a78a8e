package bench

import (
	"crypto/tls"
	"net/url"
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
func tlsConfig(base *tls.Config, address *url.URL, protocol string) *tls.Config {
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
	config.NextProtos = []string{protocol}
	return config
}
