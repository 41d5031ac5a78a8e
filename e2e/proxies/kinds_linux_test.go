package proxies_test

import "testing"

// kind is a kind of proxy: what its row in docs/proxies.md shows, and how to run
// it with its file in deploy/.
type kind struct {
	name     string
	programs []string
	file     string // in deploy/

	versionFlag string // prints the version

	// plain is set where the proxy has no TLS.
	plain bool
	http2 bool
	// one is set where the proxy takes only one daemon.
	one bool
	// noTimeout is set where the proxy has no timeout for silent streams.
	noTimeout bool
	// answers is set where the proxy answers with a stream while no daemon does.
	answers bool
	// probed is set where the proxy closes connections until a probe has found
	// that no daemon answers.
	probed bool
	// logsURLs is set where the proxy logs URLs while no daemon answers.
	logsURLs bool
	// noticed1 and noticed2 are how many heartbeats it takes until the daemon
	// knows that a client has left over HTTP/1.1, and over HTTP/2.
	noticed1, noticed2 int

	// command adapts the file and returns how to run the proxy.
	command func(t *testing.T, s setup, conf string) command
}

func kinds() []kind {
	return []kind{
		{
			name: "nginx", programs: []string{"nginx"}, versionFlag: "-v", file: "nginx/peald.conf",
			http2: true, answers: true, command: nginx,
		},
		{
			name: "HAProxy", programs: []string{"haproxy"}, versionFlag: "-v", file: "haproxy/haproxy.cfg",
			http2: true, answers: true, command: haproxy,
		},
		{
			name: "Caddy", programs: []string{"caddy"}, versionFlag: "version", file: "caddy/Caddyfile",
			http2: true, answers: true, noTimeout: true, command: caddy,
		},
		{
			name: "Apache", programs: []string{"apache2", "httpd"}, versionFlag: "-v", file: "apache/peald.conf",
			http2: true, answers: true, noticed1: 2, noticed2: 1, command: apache,
		},
		{
			name: "Varnish", programs: []string{"varnishd"}, versionFlag: "-V", file: "varnish/peald.vcl",
			plain: true, answers: true, probed: true, command: varnish,
		},
		{
			name: "Squid", programs: []string{"squid"}, versionFlag: "-v", file: "squid/squid.conf",
			command: squid,
		},
		{
			name: "lighttpd", programs: []string{"lighttpd"}, versionFlag: "-v", file: "lighttpd/peald.conf",
			http2: true, logsURLs: true, noticed1: 1, command: lighttpd,
		},
		{
			name: "h2o", programs: []string{"h2o"}, versionFlag: "-v", file: "h2o/h2o.conf",
			http2: true, one: true, logsURLs: true, noticed1: 2, command: h2o,
		},
	}
}
