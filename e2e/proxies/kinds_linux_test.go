package proxies_test

import "testing"

// kind describes a kind of proxy: its properties for docs/proxies.md, and how to
// run it with its file in deploy/.
type kind struct {
	name     string
	programs []string
	file     string // in deploy/

	versionFlag string // prints the version

	// plain is set if the proxy doesn't support TLS.
	plain bool
	http2 bool
	// one is set if the proxy supports only one daemon.
	one bool
	// noTimeout is set if the proxy has no timeout for silent streams.
	noTimeout bool
	// answers is set if the proxy answers with a stream while no daemon is reachable.
	answers bool
	// probed is set if the proxy closes connections until a probe has detected that
	// no daemon is reachable.
	probed bool
	// logsURLs is set if the proxy logs URLs while no daemon is reachable.
	logsURLs bool
	// detected1 and detected2 are the numbers of heartbeats until the daemon detects
	// the disconnect of a client over HTTP/1.1 and HTTP/2.
	detected1, detected2 int

	// command adapts the file and returns the command that runs the proxy.
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
			http2: true, answers: true, detected1: 2, detected2: 1, command: apache,
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
			http2: true, logsURLs: true, detected1: 1, command: lighttpd,
		},
		{
			name: "h2o", programs: []string{"h2o"}, versionFlag: "-v", file: "h2o/h2o.conf",
			http2: true, one: true, logsURLs: true, detected1: 2, command: h2o,
		},
	}
}
