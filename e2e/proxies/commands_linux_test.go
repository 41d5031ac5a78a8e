package proxies_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func nginx(t *testing.T, s setup, conf string) command {
	t.Helper()

	conf = replaced(t, conf, "listen 443 ssl http2;", "listen "+s.addr+" ssl http2;")
	conf = s.withFiles(t, conf)
	conf = s.withBackends(t, conf, "    server 127.0.0.1:8080 max_fails=1 fail_timeout=1s;\n")
	conf = replaced(t, conf, "https://app.example.com", s.origin)
	conf = strings.ReplaceAll(conf, "/var/log/nginx/error.log", "stderr")
	conf = s.withTimeouts(t, conf, "proxy_read_timeout 60s", "proxy_read_timeout %ds")

	// Other users could read neither the key nor the directory.
	return command{
		conf: fmt.Sprintf(`daemon off;
			user %s;
			worker_processes 1;
			pid %s/pid;
			error_log stderr;
			events {}
			http {
				access_log off;
				client_body_temp_path %[2]s/body;
				proxy_temp_path %[2]s/proxy;
				fastcgi_temp_path %[2]s/fastcgi;
				uwsgi_temp_path %[2]s/uwsgi;
				scgi_temp_path %[2]s/scgi;
				%s
			}`, userName(t), s.dir, conf),
		args: []string{"-e", "stderr", "-p", s.dir, "-c", "%s"},
	}
}

func haproxy(t *testing.T, s setup, conf string) command {
	t.Helper()

	conf = replaced(t, conf, "bind :443", "bind "+s.addr)
	conf = replaced(t, conf, "/etc/haproxy/certs/events.example.com.pem", s.both)
	conf = s.withBackends(t, conf, "    server one 127.0.0.1:8080 check inter 1s fall 1 rise 1\n")
	conf = replaced(t, conf, "https://app.example.com", s.origin)
	conf = s.withTimeouts(t, conf, "timeout client 60s", "timeout client %ds")
	conf = s.withTimeouts(t, conf, "timeout server 60s", "timeout server %ds")

	// -dW: warnings are errors.
	return command{conf: conf, args: []string{"-dW", "-f", "%s"}}
}

func caddy(t *testing.T, s setup, conf string) command {
	t.Helper()

	const site = "{$EVENTS_HOST:events.example.com} {\n"

	host, _, _ := strings.Cut(s.addr, ":")
	conf = replaced(t, conf, site, fmt.Sprintf("%s\tbind %s\n\ttls %s %s\n", site, host, s.cert, s.key))
	conf = replaced(t, conf, "https://app.example.com", s.origin)

	return command{
		conf: replaced(t, conf, "\n{\n", "\n{\n\tadmin off\n\tauto_https off\n"),
		args: []string{"run", "--adapter", "caddyfile", "--config", "%s"},
		env: []string{
			"XDG_DATA_HOME=" + s.dir, "XDG_CONFIG_HOME=" + s.dir,
			"EVENTS_HOST=https://" + s.addr, "EVENTS_UPSTREAM=" + strings.Join(s.backends, " "),
		},
	}
}

func apache(t *testing.T, s setup, conf string) command {
	t.Helper()

	const member = `        BalancerMember "http://127.0.0.1:8080" connectiontimeout=5 timeout=60 flushpackets=on disablereuse=on retry=1` + "\n"

	modules := "/usr/lib/apache2/modules"
	down := filepath.Join(s.dir, "peald-down.asis")
	write(t, down, s.withRetry(read(t, deploy("apache/peald-down.asis"))))

	conf = replaced(t, conf, "*:443", s.addr)
	conf = s.withFiles(t, conf)
	conf = s.withBackends(t, conf, member)
	conf = strings.ReplaceAll(conf, "timeout=60 ", timeout("timeout=%d ", max(s.idle, 0), 60))
	conf = replaced(t, conf, `https://app\.example\.com`, regexp.QuoteMeta(s.origin))
	conf = replaced(t, conf, "/etc/apache2/peald-down.asis", down)

	var server strings.Builder

	for _, module := range []string{
		"mpm_event", "authz_core", "alias", "socache_shmcb", "slotmem_shm", "proxy", "proxy_balancer",
		// The modules listed in the file.
		"ssl", "http2", "proxy_http", "lbmethod_byrequests", "env", "headers", "setenvif", "asis", "include",
	} {
		fmt.Fprintf(&server, "LoadModule %s_module %s/mod_%s.so\n", module, modules, module)
	}

	if os.Getuid() == 0 {
		server.WriteString("User www-data\nGroup www-data\n")
	}

	fmt.Fprintf(&server, `ServerRoot %[1]s
		DefaultRuntimeDir %[1]s
		PidFile %[1]s/pid
		Define APACHE_LOG_DIR %[1]s
		ServerName localhost
		ErrorLog /dev/stderr
		StartServers 1
		ThreadsPerChild 25
		MaxRequestWorkers 100
		Listen %[2]s
		%[3]s`, s.dir, s.addr, strings.Replace(conf, "ErrorLog ${APACHE_LOG_DIR}/error.log", "ErrorLog /dev/stderr", 1))

	return command{conf: server.String(), args: []string{"-DFOREGROUND", "-f", "%s"}}
}

func varnish(t *testing.T, s setup, conf string) command {
	t.Helper()

	block := regexp.MustCompile(`(?s)backend one \{.*?\n\}\n`).FindString(conf)

	var backends, added strings.Builder

	for i, addr := range s.backends {
		name := fmt.Sprintf("number%d", i)
		host, port, _ := strings.Cut(addr, ":")
		one := replaced(t, block, "backend one", "backend "+name)
		one = replaced(t, one, `"127.0.0.1"`, fmt.Sprintf("%q", host))
		backends.WriteString(replaced(t, one, `"8080"`, fmt.Sprintf("%q", port)))
		fmt.Fprintf(&added, "    peald.add_backend(%s);\n", name)
	}

	conf = replaced(t, conf, block, backends.String())
	conf = replaced(t, conf, "    peald.add_backend(one);\n", added.String())
	conf = replaced(t, conf, `https://app\.example\.com`, regexp.QuoteMeta(s.origin))

	return command{conf: conf, args: []string{
		"-F", "-j", "none", "-a", s.addr, "-f", "%s", "-n", filepath.Join(s.dir, "n"), "-s", "malloc,16m", "-T", "none",
		"-p", timeout("pipe_timeout=%d", s.idle, 60),
	}}
}

func squid(t *testing.T, s setup, conf string) command {
	t.Helper()

	var peers strings.Builder

	const peer = "cache_peer 127.0.0.1 parent 8080 0 no-query no-digest originserver round-robin connect-timeout=5 name=one\n"

	for i, addr := range s.backends {
		host, port, _ := strings.Cut(addr, ":")
		one := replaced(t, peer, "127.0.0.1 parent 8080", host+" parent "+port)
		peers.WriteString(replaced(t, one, "name=one", fmt.Sprintf("name=number%d", i)))
	}

	conf = replaced(t, conf, peer, peers.String())
	conf = replaced(t, conf, "https_port 443", "https_port "+s.addr)
	conf = replaced(t, conf, "/etc/squid/events.example.com.pem", s.both)
	conf = s.withTimeouts(t, conf, "read_timeout 60 seconds", "read_timeout %d seconds")

	return command{
		conf: fmt.Sprintf("%s\npid_filename none\ncache_log %s/cache.log\ncoredump_dir %[2]s\npinger_enable off\nshutdown_lifetime 0 seconds\n", conf, s.dir),
		// The name identifies its shared memory.
		args: []string{"-N", "-n", "peald" + strings.NewReplacer(".", "", ":", "").Replace(s.addr), "-f", "%s"},
	}
}

func lighttpd(t *testing.T, s setup, conf string) command {
	t.Helper()

	var hosts strings.Builder

	const host = `            ("host" => "127.0.0.1", "port" => 8080, "read-timeout" => 60), # longer than sse.heartbeat` + "\n"

	for _, addr := range s.backends {
		name, port, _ := strings.Cut(addr, ":")
		one := replaced(t, host, `"127.0.0.1", "port" => 8080`, fmt.Sprintf(`%q, "port" => %s`, name, port))
		hosts.WriteString(s.withTimeouts(t, one, `"read-timeout" => 60`, `"read-timeout" => %d`))
	}

	listener, _, _ := strings.Cut(s.addr, ":")
	conf = replaced(t, conf, host, hosts.String())
	conf = replaced(t, conf, `":443"`, fmt.Sprintf("%q", s.addr))
	conf = replaced(t, conf, "/etc/lighttpd/events.example.com.pem", s.both)

	return command{
		conf: fmt.Sprintf("server.document-root = %q\nserver.bind = %q\nserver.port = 8081\n%s", s.dir, listener, conf),
		args: []string{"-D", "-f", "%s"},
	}
}

func h2o(t *testing.T, s setup, conf string) command {
	t.Helper()

	host, port, _ := strings.Cut(s.addr, ":")
	conf = replaced(t, conf, "  port: 443\n", fmt.Sprintf("  port: %s\n  host: %s\n", port, host))
	conf = s.withFiles(t, conf)
	conf = replaced(t, conf, backend, s.backends[0])

	if s.idle > 0 {
		conf = replaced(t, conf, "proxy.timeout.io: 60000", fmt.Sprintf("proxy.timeout.io: %d", s.idle.Milliseconds()))
	}

	return command{conf: fmt.Sprintf("user: %s\npid-file: %s/pid\nnum-threads: 1\n%s", userName(t), s.dir, conf), args: []string{"-c", "%s"}}
}
