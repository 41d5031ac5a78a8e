package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// files are those that were read for TLS and are followed.
type files struct {
	log     *slog.Logger
	rereads []func()
}

// reread reads all of them again now. What can't be read is in the log.
func (f *files) reread() {
	for _, reread := range f.rereads {
		reread()
	}
}

// serverTLS reads a certificate, named by settings under section. Without one
// it returns nil, for plain text.
func (f *files) serverTLS(section, certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil //nolint:nilnil // as crypto/tls: no Config is no TLS
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

func readPair(section, certFile, keyFile string) (*tls.Certificate, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, &SettingError{
			section + ".cert_file", fmt.Sprintf("%q with the key %q (%v)", certFile, keyFile, err),
			"readable PEM files of a certificate and its private key",
		}
	}
	return &certificate, nil
}

// controlTLS is serverTLS for the gRPC listener, which may ask its callers for
// a certificate too.
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

// readAuthorities reads the file of authorities that a setting names.
func readAuthorities(key, file string) (*x509.CertPool, error) {
	const accepted = "a readable PEM file with at least one certificate"
	authorities, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, &SettingError{key, fmt.Sprintf("%q (%v)", file, err), accepted}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, &SettingError{key, strconv.Quote(file), accepted}
	}
	return pool, nil
}

// followed is what was read from files, and is read again when they change.
// Whoever asks for it looks whether they have, so that it takes no goroutine;
// what can't be read leaves the last that could.
type followed[T any] struct {
	files []string
	read  func() (T, error)
	log   *slog.Logger

	mu      sync.Mutex
	value   T
	seen    []os.FileInfo // of the files that value was read from
	failed  []os.FileInfo // of those that could not be read last
	checked time.Time
}

// checkEvery is how often files are looked at.
const checkEvery = time.Second

func follow[T any](all *files, read func() (T, error), names ...string) (*followed[T], error) {
	f := &followed[T]{files: names, read: read, log: all.log, checked: time.Now()}
	f.seen = f.stat()
	var err error
	f.value, err = read()
	all.rereads = append(all.rereads, f.reread)
	return f, err
}

// reread has the files read now, whether they seem to have changed or not.
func (f *followed[T]) reread() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checked, f.seen, f.failed = time.Now(), nil, nil
	f.renew()
}

func (f *followed[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.checked) >= checkEvery {
		f.checked = now
		f.renew()
	}
	return f.value
}

// renew reads files that have changed. It looks at them before it reads them:
// what changes in between is read again the next time.
func (f *followed[T]) renew() {
	found := f.stat()
	if same(found, f.seen) {
		return
	}
	value, err := f.read()
	if err != nil {
		if !same(found, f.failed) {
			f.log.Error("changed files can't be used; what they held before still counts", "error", err)
		}
		f.failed = found
		return
	}
	f.value, f.seen, f.failed = value, found, nil
	f.log.Info("changed files are in use", "files", f.files)
}

func (f *followed[T]) stat() []os.FileInfo {
	found := make([]os.FileInfo, len(f.files))
	for i, name := range f.files {
		found[i], _ = os.Stat(name) // one that is not there is nil
	}
	return found
}

func same(a, b []os.FileInfo) bool {
	return slices.EqualFunc(a, b, func(a, b os.FileInfo) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
	})
}
