package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// certificates holds the TLS configurations of a daemon. A nil configuration means
// plain text.
type certificates struct{ sse, grpc, cluster *tls.Config }

// files tracks the files that have been read for TLS. They are read again when they
// change.
type files struct {
	log     *slog.Logger
	rereads []func()
}

// load reads the files that cfg names.
func (f *files) load(cfg Config) (c certificates, err error) {
	if c.sse, err = f.serverTLS("sse.tls", cfg.SSE.TLS.CertFile, cfg.SSE.TLS.KeyFile); err != nil {
		return c, err
	}
	if c.grpc, err = f.controlTLS(cfg.GRPC.TLS); err != nil {
		return c, err
	}
	if cfg.Cluster.Mode != ClusterOff {
		c.cluster, err = f.clusterTLS(cfg.Cluster)
	}
	return c, err
}

// reread immediately reads all files again, and logs those that can't be read.
func (f *files) reread() {
	for _, reread := range f.rereads {
		reread()
	}
}

// serverTLS reads a server's certificate. It returns nil if no certificate is
// configured. Section is the section of the settings, for use in errors.
func (f *files) serverTLS(section, certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil //nolint:nilnil // As in crypto/tls, no Config means no TLS.
	}

	current, err := follow(f, func() (*tls.Certificate, error) { return readPair(section, certFile, keyFile) }, certFile, keyFile)
	if err != nil {
		return nil, err
	}

	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.get(), nil },
	}, nil
}

// controlTLS is like serverTLS, but for the gRPC listener, which may also require
// client certificates.
func (f *files) controlTLS(cfg MutualTLS) (*tls.Config, error) {
	config, err := f.serverTLS("grpc.tls", cfg.CertFile, cfg.KeyFile)
	if err != nil || cfg.ClientCAFile == "" {
		return config, err
	}

	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.NextProtos = []string{"h2"}
	current, err := follow(f, func() (*tls.Config, error) {
		authorities, err := readAuthorities("grpc.tls.client_ca_file", cfg.ClientCAFile)
		if err != nil {
			return nil, err
		}
		with := config.Clone()
		with.ClientCAs = authorities

		return with, nil
	}, cfg.ClientCAFile)
	if err != nil {
		return nil, err
	}

	outer := config.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.get(), nil }

	return outer, nil
}

// clusterTLS returns the TLS configuration for connections between nodes or to NATS
// servers. It returns nil for plain text.
//
// Nodes know each other by address, and one name may resolve to many nodes. Between
// nodes, a certificate that the cluster's authority has signed is therefore valid
// whatever name it contains.
func (f *files) clusterTLS(cfg Cluster) (*tls.Config, error) {
	if cfg.TLS.CertFile == "" && cfg.TLS.CAFile == "" {
		return nil, nil //nolint:nilnil // As in crypto/tls, no Config means no TLS.
	}

	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS.CertFile != "" {
		pair, err := follow(f, func() (*tls.Certificate, error) {
			return readPair("cluster.tls", cfg.TLS.CertFile, cfg.TLS.KeyFile)
		}, cfg.TLS.CertFile, cfg.TLS.KeyFile)
		if err != nil {
			return nil, err
		}
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get(), nil }
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(), nil }
	}

	if cfg.TLS.CAFile == "" {
		return config, nil
	}
	authorities, err := follow(f, func() (*x509.CertPool, error) {
		return readAuthorities("cluster.tls.ca_file", cfg.TLS.CAFile)
	}, cfg.TLS.CAFile)
	if err != nil {
		return nil, err
	}

	if cfg.Mode != ClusterEmbedded {
		config.RootCAs = authorities.get()
		return config, nil
	}
	config.ClientAuth = tls.RequireAnyClientCert
	config.InsecureSkipVerify = true // VerifyConnection verifies everything except the name.
	config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, authorities.get()) }

	return config, nil
}

// verifyChain returns an error unless an authority in pool has signed the peer's
// certificate.
func verifyChain(state tls.ConnectionState, pool *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the other node sent no certificate")
	}

	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}

	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

func readPair(section, certFile, keyFile string) (*tls.Certificate, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, &SettingError{
			section + ".cert_file", fmt.Sprintf("%q with the key %q (%v)", certFile, keyFile, err),
			"readable PEM files with a certificate and its private key",
		}
	}
	return &certificate, nil
}

// readAuthorities reads certificate authorities from the file that the setting with the
// given key names.
func readAuthorities(key, file string) (*x509.CertPool, error) {
	const accepted = "a readable PEM file with at least one certificate"

	authorities, err := os.ReadFile(file) //nolint:gosec // The operator names it.
	if err != nil {
		return nil, &SettingError{key, fmt.Sprintf("%q (%v)", file, err), accepted}
	}

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, &SettingError{key, strconv.Quote(file), accepted}
	}
	return pool, nil
}

// followed is a value that is read from files, and read again when they change. It
// needs no goroutine, because get checks for changes. If the files can't be read,
// followed keeps the previous value.
type followed[T any] struct {
	files []string
	read  func() (T, error)
	log   *slog.Logger

	mu      sync.Mutex
	value   T
	seen    []os.FileInfo // of the files that value was read from
	failed  []os.FileInfo // of the files that the last attempt couldn't read
	checked time.Time
}

// checkEvery is the interval at which files are checked for changes.
const checkEvery = time.Second

func follow[T any](all *files, read func() (T, error), names ...string) (*followed[T], error) {
	f := &followed[T]{files: names, read: read, log: all.log, checked: time.Now()}
	f.seen = f.stat()
	var err error
	f.value, err = read()
	all.rereads = append(all.rereads, f.reread)

	return f, err
}

// get returns the current value.
func (f *followed[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()

	if now := time.Now(); now.Sub(f.checked) >= checkEvery {
		f.checked = now
		f.refresh()
	}
	return f.value
}

// reread immediately reads the files, whether or not they have changed.
func (f *followed[T]) reread() {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.checked, f.seen, f.failed = time.Now(), nil, nil
	f.refresh()
}

// refresh reads the files if they have changed. It stats them before it reads them, so
// that files that change in between are read again the next time.
func (f *followed[T]) refresh() {
	found := f.stat()
	if same(found, f.seen) {
		return
	}

	value, err := f.read()
	if err != nil {
		if !same(found, f.failed) {
			f.log.Error("cannot load changed certificate files, keeping the previous certificates", "error", err)
		}
		f.failed = found
		return
	}

	f.value, f.seen, f.failed = value, found, nil
	f.log.Info("reloaded certificate files", "files", f.files)
}

func (f *followed[T]) stat() []os.FileInfo {
	found := make([]os.FileInfo, len(f.files))
	for i, name := range f.files {
		found[i], _ = os.Stat(name) // The info is nil if the file is missing.
	}
	return found
}

// same reports whether two lists describe the same files, unchanged.
func same(a, b []os.FileInfo) bool {
	return slices.EqualFunc(a, b, func(a, b os.FileInfo) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
	})
}
