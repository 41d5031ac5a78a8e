package ssehttp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// path is a way from a client to a handler.
type path struct {
	name    string
	engine  ssehttp.Engine
	direct  bool // the engine reads the requests; otherwise net/http does
	tls     bool
	http2   bool
	version uint16 // of TLS, at most; 0 for the latest
}

// transport returns the name of the path's transport in metrics and logs.
func (p path) transport() string {
	switch {
	case p.http2:
		return "http2"
	case p.tls:
		return "tls"
	case p.engine == ssehttp.NetHTTP:
		return "http1"
	default:
		return "epoll"
	}
}

// plainPaths returns the paths on which net/http reads requests in plain text.
func plainPaths() []path {
	return []path{
		{name: string(ssehttp.NetHTTP), engine: ssehttp.NetHTTP},
		{name: string(ssehttp.Epoll), engine: ssehttp.Epoll},
	}
}

// enginePaths returns the paths on which the engine reads requests.
func enginePaths() []path {
	return []path{
		{name: "engine", engine: ssehttp.Epoll, direct: true},
		{name: "engine TLS", engine: ssehttp.Epoll, direct: true, tls: true},
		{name: "engine TLS HTTP2", engine: ssehttp.Epoll, direct: true, tls: true, http2: true},
		{name: "engine HTTP2", engine: ssehttp.Epoll, direct: true, http2: true},
	}
}

// allPaths returns all paths.
func allPaths() []path {
	return append(append(plainPaths(), enginePaths()...),
		path{name: "engine TLS 1.2", engine: ssehttp.Epoll, direct: true, tls: true, version: tls.VersionTLS12},
		path{name: "nethttp TLS", engine: ssehttp.NetHTTP, tls: true},
		path{name: "nethttp TLS HTTP2", engine: ssehttp.NetHTTP, tls: true, http2: true},
		path{name: "nethttp HTTP2", engine: ssehttp.NetHTTP, http2: true},
	)
}

// onEach runs a test on each of the paths.
func onEach(t *testing.T, paths []path, test func(t *testing.T, via path)) {
	t.Helper()
	for _, via := range paths {
		t.Run(via.name, func(t *testing.T) {
			if via.engine == ssehttp.Epoll && runtime.GOOS != "linux" {
				t.Skip("epoll requires Linux")
			}
			test(t, via)
		})
	}
}

// onBoth runs a test on each engine, in plain text.
func onBoth(t *testing.T, test func(t *testing.T, via path)) { onEach(t, plainPaths(), test) }

// onAll runs a test on all paths.
func onAll(t *testing.T, test func(t *testing.T, via path)) { onEach(t, allPaths(), test) }

// guard lets every connection pass.
type guard struct{}

func (guard) Direct(net.Addr) bool   { return true }
func (guard) Trusted(net.Addr) bool  { return true }
func (guard) NoRequest(string)       {}
func (guard) TooManyRequests(string) {}

// serveVia serves h and b until the test ends.
func serveVia(t *testing.T, via path, h *ssehttp.Handler, b *broker.Broker) *server {
	t.Helper()

	var serverTLS, clientTLS *tls.Config
	if via.tls {
		serverTLS, clientTLS = configs(t, via)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!via.http2)
	protocols.SetHTTP2(via.http2 && via.tls)
	protocols.SetUnencryptedHTTP2(via.http2 && !via.tls)
	s := &server{
		Server: httptest.NewUnstartedServer(h), broker: b, handler: h, via: via,
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS, Protocols: protocols}},
	}

	switch {
	case via.direct:
		s.Listener = h.Listen(s.Listener, ssehttp.ListenConfig{
			TLS: serverTLS, HeaderTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeader: 32 << 10, Other: h, Guard: guard{},
		})
		s.Start()
	case via.tls:
		s.TLS, s.EnableHTTP2 = serverTLS, via.http2
		s.StartTLS()
	default:
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	if s.URL = "http://" + s.Listener.Addr().String(); via.tls {
		s.URL = "https://" + s.Listener.Addr().String()
	}

	t.Cleanup(func() {
		b.Close()
		s.client.CloseIdleConnections()
		s.Close()
		if err := h.Close(); err != nil {
			t.Errorf("close the handler: %v", err)
		}
	})
	return s
}

// configs returns the configurations of TLS for a server and its clients.
func configs(t *testing.T, via path) (server, client *tls.Config) {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)

	server = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12,
	}
	return server, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, MaxVersion: via.version}
}
