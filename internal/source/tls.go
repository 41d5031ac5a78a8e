package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// TLS configures the connections to a source's servers.
type TLS struct {
	// Enabled turns TLS on, with the system's certificate authorities. It is implied by
	// the other fields.
	Enabled bool
	// CAFile is a PEM file with the authorities that may sign the servers' certificates.
	CAFile string
	// CertFile and KeyFile are PEM files with the client's certificate chain and its
	// private key.
	CertFile string
	KeyFile  string
	// ServerName is the name in the servers' certificates, if it isn't the host that the
	// client connects to.
	ServerName string
}

// Active reports whether connections use TLS.
func (t TLS) Active() bool { return t != TLS{} }

// Validate returns nil if t is valid, or a *[SettingError]. Prefix is the start of the
// keys in errors, such as "kafka.tls.". It does no I/O.
func (t TLS) Validate(prefix string) error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return &SettingError{prefix + "cert_file", strconv.Quote(t.CertFile) + " with the key " + strconv.Quote(t.KeyFile), "both or neither"}
	}

	return nil
}

// Config reads the files and returns the configuration, or nil if connections don't use
// TLS.
func (t TLS) Config() (*tls.Config, error) {
	if !t.Active() {
		return nil, nil //nolint:nilnil // As in crypto/tls, no Config means no TLS.
	}

	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}

	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s: %w", t.CAFile, errNoCertificates)
		}
	}

	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}

	return config, nil
}

var errNoCertificates = errors.New("the file contains no PEM certificates")
