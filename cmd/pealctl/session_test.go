package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

func TestTokenIsSent(t *testing.T) {
	d := startDaemon(t)
	authorization := func() []string { return d.metadata.Get("authorization") }

	d.pealctl(t, []string{"broadcast", "x"})

	if got := authorization(); len(got) != 0 {
		t.Errorf("authorization is %q, want none", got)
	}

	d.pealctl(t, []string{"broadcast", "x", "--token", "s3cret"})
	if got := authorization(); !slices.Equal(got, []string{"Bearer s3cret"}) {
		t.Errorf("authorization is %q", got)
	}

	d.pealctl(t, []string{"broadcast", "x"}, withEnv("PEALCTL_TOKEN", "from-env"))
	if got := authorization(); !slices.Equal(got, []string{"Bearer from-env"}) {
		t.Errorf("authorization is %q", got)
	}

	d.pealctl(t, []string{"broadcast", "x", "--token", "s3cret"}, withEnv("PEALCTL_TOKEN", "from-env"))
	if got := authorization(); !slices.Equal(got, []string{"Bearer s3cret"}) {
		t.Errorf("authorization is %q, want the token from the flag", got)
	}
}

func TestEnvironment(t *testing.T) {
	d := startDaemon(t)
	pealctl(t, []string{"broadcast", "x"}, withEnv("PEALCTL_ADDR", d.addr)).want(t, "ID         RECIPIENTS\nk3f9-1042        5000\n")
	pealctl(t, []string{"broadcast", "x"}, withEnv("PEALCTL_TIMEOUT", "soon")).wantUsage(t, "PEALCTL_TIMEOUT", "soon")
}

func TestTLS(t *testing.T) {
	// httptest provides a certificate for 127.0.0.1.
	web := httptest.NewTLSServer(nil)
	defer web.Close()

	key := web.TLS.Certificates[0]
	caFile := writePEM(t, "CERTIFICATE", web.Certificate().Raw)

	private, err := x509.MarshalPKCS8PrivateKey(key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}

	keyFile := writePEM(t, "PRIVATE KEY", private)
	clients := x509.NewCertPool()
	clients.AddCert(web.Certificate())

	d := startDaemon(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: web.TLS.Certificates,
		ClientAuth:   tls.RequireAnyClientCert,
	})))

	d.pealctl(t, []string{"broadcast", "x", "--ca-file", caFile, "--cert-file", caFile, "--key-file", keyFile}).want(t, "ID         RECIPIENTS\nk3f9-1042        5000\n")
	d.pealctl(t, []string{"broadcast", "x", "--ca-file", caFile}).wantError(t, "UNAVAILABLE")
	d.pealctl(t, []string{"broadcast", "x", "--tls"}).wantError(t, "UNAVAILABLE", "certificate", "--ca-file")
	d.pealctl(t, []string{"broadcast", "x"}).wantError(t, "UNAVAILABLE", "--tls")
	d.pealctl(t, []string{"broadcast", "x", "--ca-file", keyFile}).wantError(t, "--ca-file", "no PEM certificate")
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
