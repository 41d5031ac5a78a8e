package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strconv"
)

// serverTLS reads a certificate, named by settings under section. Without one
// it returns nil, for plain text.
func serverTLS(section, certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil //nolint:nilnil // as crypto/tls: no Config is no TLS
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, &SettingError{
			section + ".cert_file", fmt.Sprintf("%q with the key %q (%v)", certFile, keyFile, err),
			"readable PEM files of a certificate and its private key",
		}
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, nil
}

// controlTLS is serverTLS for the gRPC listener, which may ask its callers for
// a certificate too.
func controlTLS(cfg MutualTLS) (*tls.Config, error) {
	config, err := serverTLS("grpc.tls", cfg.CertFile, cfg.KeyFile)
	if err != nil || cfg.ClientCAFile == "" {
		return config, err
	}
	const key, accepted = "grpc.tls.client_ca_file", "a readable PEM file with at least one certificate"
	authorities, err := os.ReadFile(cfg.ClientCAFile)
	if err != nil {
		return nil, &SettingError{key, fmt.Sprintf("%q (%v)", cfg.ClientCAFile, err), accepted}
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, &SettingError{key, strconv.Quote(cfg.ClientCAFile), accepted}
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
