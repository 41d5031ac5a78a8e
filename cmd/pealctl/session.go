package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// session holds what the commands of one run share: the daemon's address, the
// credentials and the standard streams.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	addr    string
	token   string
	output  format
	timeout time.Duration
	tls     tlsFlags
}

type tlsFlags struct {
	caFlag                    string // the flag that set caFile; empty for --ca-file
	enabled                   bool
	caFile, certFile, keyFile string
}

// dial returns a connection to the control plane. It doesn't connect yet, so if
// nothing listens on the address, the first call fails.
func (s *session) dial() (*grpc.ClientConn, error) {
	if err := checkAddr(s.addr); err != nil {
		return nil, err
	}

	creds := insecure.NewCredentials()
	if s.tls.required() {
		cfg, err := s.tls.config()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(cfg)
	}

	opts := []grpc.DialOption{grpc.WithTransportCredentials(creds), grpc.WithUserAgent("pealctl")}
	if s.token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(s.token)))
	}

	conn, err := grpc.NewClient(s.addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("--addr: invalid address %q: %w", s.addr, err)
	}

	return conn, nil
}

// checkAddr rejects addresses that are probably mistakes and would otherwise
// only time out. Schemes other than http and https are gRPC resolver names.
func checkAddr(addr string) error {
	const want = "the daemon's gRPC address as HOST:PORT, such as 127.0.0.1:9090, or unix:PATH"
	if strings.HasPrefix(addr, "http://") || strings.HasPrefix(addr, "https://") {
		return usagef("--addr: invalid address %q; want %s, without a scheme", addr, want)
	}
	if strings.HasPrefix(addr, "unix:") || strings.Contains(addr, "://") {
		return nil
	}
	if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
		return usagef("--addr: invalid address %q; want %s", addr, want)
	}
	return nil
}

// call connects to the control plane and calls do with a client. The client's
// calls must finish within the timeout.
func (s *session) call(ctx context.Context, do func(context.Context, pealv1.ControlServiceClient) error) (err error) {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return do(ctx, pealv1.NewControlServiceClient(conn))
}

// required reports whether the control plane must be reached over TLS.
func (t tlsFlags) required() bool {
	return t.enabled || t.caFile != "" || t.certFile != "" || t.keyFile != ""
}

func (t tlsFlags) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	caFlag := cmp.Or(t.caFlag, "--ca-file")

	if t.caFile != "" {
		pem, err := os.ReadFile(t.caFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", caFlag, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s %s: no PEM certificate found", caFlag, t.caFile)
		}
	}

	if (t.certFile == "") != (t.keyFile == "") {
		return nil, usagef("only one of --cert-file and --key-file is set; want both or neither")
	}

	if t.certFile != "" {
		cert, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert-file %s, --key-file %s: %w", t.certFile, t.keyFile, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}

	return cfg, nil
}

// bearer is a control token that is sent with every call.
type bearer string

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials]. The
// control plane usually listens on the loopback interface, where TLS protects
// nothing.
func (bearer) RequireTransportSecurity() bool { return false }

// terminal returns w as a file if it is a terminal, and nil otherwise.
func terminal(w io.Writer) *os.File {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}
