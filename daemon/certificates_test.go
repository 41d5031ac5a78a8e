package daemon_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// identity is a self-signed certificate for 127.0.0.1, which is also its own
// authority.
type identity struct {
	certFile, keyFile string
	pool              *x509.CertPool
	pair              tls.Certificate
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "peald's test"},
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{
		certFile: filepath.Join(t.TempDir(), "cert.pem"),
		keyFile:  filepath.Join(t.TempDir(), "key.pem"),
		pool:     x509.NewCertPool(),
		pair:     pair,
	}
	id.pool.AppendCertsFromPEM(certPEM)
	const private = 0o600
	if err := errors.Join(os.WriteFile(id.certFile, certPEM, private), os.WriteFile(id.keyFile, keyPEM, private)); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestStreamsOverTLS(t *testing.T) {
	id := newIdentity(t)
	d := start(t, func(cfg *daemon.Config) {
		cfg.SSE.TLS = daemon.TLS{CertFile: id.certFile, KeyFile: id.keyFile}
	})
	rpc, _ := controlClient(t, d.GRPC)
	for _, http2 := range []bool{false, true} {
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: id.pool},
			ForceAttemptHTTP2: http2,
		}
		defer transport.CloseIdleConnections()
		lines := stream(t, &http.Client{Transport: transport}, "https://"+d.SSE+"/events")
		if _, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "encrypted"}); err != nil {
			t.Fatal(err)
		}
		awaitLine(t, lines, "data: encrypted")
	}
	d.end()
	if err := d.awaitEnd(t); err != nil {
		t.Errorf("the daemon ends with %v", err)
	}
}

func TestClientCertificates(t *testing.T) {
	id, stranger := newIdentity(t), newIdentity(t)
	d := start(t, func(cfg *daemon.Config) {
		cfg.GRPC.TLS = daemon.MutualTLS{CertFile: id.certFile, KeyFile: id.keyFile, ClientCAFile: id.certFile}
	})
	for name, test := range map[string]struct {
		certificates []tls.Certificate
		want         codes.Code
	}{
		"of the authority": {[]tls.Certificate{id.pair}, codes.OK},
		"of another":       {[]tls.Certificate{stranger.pair}, codes.Unavailable},
		"none":             {nil, codes.Unavailable},
	} {
		conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: id.pool, Certificates: test.certificates,
		})))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = pealv1.NewControlServiceClient(conn).Stats(t.Context(), &pealv1.StatsRequest{})
		if got := status.Code(err); got != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func TestUnreadableCertificates(t *testing.T) {
	id := newIdentity(t)
	for key, change := range map[string]func(*daemon.Config){
		"sse.tls.cert_file":  func(c *daemon.Config) { c.SSE.TLS = daemon.TLS{CertFile: "/nonexistent", KeyFile: id.keyFile} },
		"grpc.tls.cert_file": func(c *daemon.Config) { c.GRPC.TLS = daemon.MutualTLS{CertFile: id.keyFile, KeyFile: id.certFile} },
		"grpc.tls.client_ca_file": func(c *daemon.Config) {
			c.GRPC.TLS = daemon.MutualTLS{CertFile: id.certFile, KeyFile: id.keyFile, ClientCAFile: id.keyFile}
		},
	} {
		cfg := onFreePorts()
		change(&cfg)
		err := daemon.Run(t.Context(), cfg, daemon.Options{})
		if setting, ok := errors.AsType[*daemon.SettingError](err); !ok || setting.Key != key {
			t.Errorf("error is %v, want one about %s", err, key)
		}
	}
}
