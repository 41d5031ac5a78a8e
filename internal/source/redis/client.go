package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// newClient returns a client for up to the given number of concurrent commands. It does
// no network I/O. The caller must close the client.
func (c Config) newClient(concurrency int) (goredis.UniversalClient, error) {
	o, err := c.options()
	if err != nil {
		return nil, errors.New("redis.url isn't valid") // the error may contain parts of the password
	}

	if o.TLSConfig != nil {
		if err := c.loadFiles(o.TLSConfig); err != nil {
			return nil, err
		}
	}

	// A read that is repeated would skip the entries in the reply that was lost.
	o.MaxRetries = -1
	o.DialerRetries = 1 // the manager tries again
	o.PoolSize = concurrency
	o.ContextTimeoutEnabled = true
	// RESP2 suffices, and needs no HELLO, which some proxies don't support.
	o.Protocol = 2
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	// The library would write lines of its own to stderr. All errors are also returned.
	logging.Disable()

	return goredis.NewUniversalClient(o), nil
}

// loadFiles adds the certificates in the configured files to cfg.
func (c Config) loadFiles(cfg *tls.Config) error {
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return fmt.Errorf("redis.ca_file: %w", err)
		}

		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("redis.ca_file: %s contains no certificate", c.CAFile)
		}
	}

	if c.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return fmt.Errorf("redis.cert_file: %w", err)
		}

		cfg.Certificates = []tls.Certificate{certificate}
	}

	return nil
}
