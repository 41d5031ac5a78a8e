package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"text/template"
)

const nchanName = "nchan"

//go:embed nginx.conf.tmpl
var nginxConf string

// findNchan looks for nginx and its nchan module in the directories that
// distributions use.
func findNchan(ctx context.Context, dir string, cert certificate) (target, error) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		return target{}, errors.New("nginx is not installed")
	}

	module := ""
	for _, at := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"} {
		path := filepath.Join(at, "ngx_nchan_module.so")
		if _, err := os.Stat(path); err == nil {
			module = path
		}
	}

	if module == "" {
		return target{}, errors.New("nginx's module nchan is not installed (Debian and Ubuntu: apt install libnginx-mod-nchan)")
	}

	conf, err := template.New("nginx.conf").Parse(nginxConf)
	if err != nil {
		return target{}, fmt.Errorf("parse nginx.conf.tmpl: %w", err)
	}

	self, err := user.Current()
	if err != nil {
		return target{}, fmt.Errorf("look up the current user: %w", err)
	}

	version := output(ctx, "dpkg-query", "--show", "--showformat=${Version}", "libnginx-mod-nchan")
	version = strings.TrimSpace(version + " on " + strings.TrimPrefix(output(ctx, nginx, "-v"), "nginx version: "))
	n := nchan{program: nginx, conf: conf, cert: cert, settings: nginxSettings{Dir: dir, Module: module, User: self.Username}}
	return target{name: nchanName, version: version, start: n.start, secure: n.startSecure}, nil
}

// nchan starts nginx with its module nchan.
type nchan struct {
	program  string
	conf     *template.Template
	settings nginxSettings
	cert     certificate
}

func (n nchan) start(ctx context.Context) (*running, error) {
	r, err := startOnPort(ctx, func(port string) (*process, error) {
		path := filepath.Join(n.settings.Dir, "nginx.conf")
		n.settings.Port = port
		if err := writeTemplate(path, n.conf, n.settings); err != nil {
			return nil, err
		}

		return startProcess(n.program, "-c", path, "-e", filepath.Join(n.settings.Dir, "nginx.log"))
	})
	if err != nil {
		return nil, err
	}

	r.streams += "streams"
	r.publish += "publish"
	return r, nil
}

// startSecure starts nginx with streams over TLS, in addition to those over plain
// HTTP/1.1.
func (n nchan) startSecure(ctx context.Context) (*running, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}

	n.settings.Secure, n.settings.CertFile, n.settings.KeyFile = address, n.cert.certFile, n.cert.keyFile
	r, err := n.start(ctx)
	if err != nil {
		return nil, err
	}

	r.streams, r.tls = "https://"+address+"/streams", n.cert.client
	return r, nil
}

// nginxSettings fills the template nginx.conf.tmpl.
type nginxSettings struct {
	Dir, Port, Module, User   string
	Secure, CertFile, KeyFile string // an address for TLS, if not empty
}

func writeTemplate(path string, t *template.Template, data any) (err error) {
	file, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := t.Execute(file, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
