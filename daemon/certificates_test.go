package daemon_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
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
		t.Errorf("Run returned %v", err)
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
		"signed by the authority": {[]tls.Certificate{id.pair}, codes.OK},
		"signed by another":       {[]tls.Certificate{stranger.pair}, codes.Unavailable},
		"none":                    {nil, codes.Unavailable},
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

// TestCertificateOrToken calls with a client certificate, with and without a
// token.
func TestCertificateOrToken(t *testing.T) {
	id := newIdentity(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d := startLogging(t, log, func(cfg *daemon.Config) {
		cfg.GRPC.TLS = daemon.MutualTLS{CertFile: id.certFile, KeyFile: id.keyFile, ClientCAFile: id.certFile}
		cfg.Control.Tokens = []daemon.Token{{Name: "reader", Token: "a-token-that-may-read", Scopes: []string{"read"}}}
	})

	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: id.pool, Certificates: []tls.Certificate{id.pair},
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rpc := pealv1.NewControlServiceClient(conn)
	for name, test := range map[string]struct {
		token           string
		read, broadcast codes.Code
	}{
		"certificate only":              {"", codes.OK, codes.OK},
		"certificate and token":         {"a-token-that-may-read", codes.OK, codes.PermissionDenied},
		"certificate and unknown token": {"a-token-that-is-not", codes.Unauthenticated, codes.Unauthenticated},
	} {
		ctx := t.Context()
		if test.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+test.token)
		}
		if _, err := rpc.Stats(ctx, &pealv1.StatsRequest{}); status.Code(err) != test.read {
			t.Errorf("%s: reading gets %v, want %v", name, err, test.read)
		}
		if _, err := rpc.Broadcast(ctx, &pealv1.BroadcastRequest{Data: "x"}); status.Code(err) != test.broadcast {
			t.Errorf("%s: publishing gets %v, want %v", name, err, test.broadcast)
		}
	}
	if _, err := rpc.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice"}); err != nil {
		t.Error(err)
	}
	if said, err := os.ReadFile(log.Name()); err != nil || !strings.Contains(string(said), `msg=audit caller="peald's test" method=Disconnect code=OK`) {
		t.Errorf("the log lacks the certificate's name (%v): %s", err, said)
	}
	if got := call(t, client(t), http.MethodGet, "http://"+d.REST+"/v1/stats", ""); !strings.Contains(got, "401") {
		t.Errorf("REST without a token answers %s, want 401", got)
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

// TestCertificatesAreReloaded replaces the files of a running daemon. At first the
// new certificate doesn't match the old key. Open streams go on, and clients with a
// session connect.
func TestCertificatesAreReloaded(t *testing.T) {
	first, second := newIdentity(t), newIdentity(t)
	d := start(t, func(cfg *daemon.Config) {
		cfg.SSE.TLS = daemon.TLS{CertFile: first.certFile, KeyFile: first.keyFile}
		cfg.GRPC.TLS = daemon.MutualTLS{CertFile: first.certFile, KeyFile: first.keyFile, ClientCAFile: first.certFile}
	})

	// shown returns the certificate that a listener sends to a client that has one.
	shown := func(addr string, with identity) ([]byte, error) {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{with.pair}, NextProtos: []string{"h2"}})
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		// With TLS 1.3, a client learns that it was rejected when it reads.
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return nil, err
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}

		return conn.ConnectionState().PeerCertificates[0].Raw, nil
	}

	wants := func(want identity) bool {
		for _, addr := range []string{d.SSE, d.GRPC} {
			if raw, err := shown(addr, want); err != nil || !bytes.Equal(raw, want.pair.Certificate[0]) {
				return false
			}
		}

		return true
	}
	if !wants(first) {
		t.Fatal("the listeners don't use the first certificate")
	}

	url := "https://" + d.SSE + "/events"
	var streams []*bufio.Reader
	for _, via := range transports()[1:] {
		web := reachable{running: d, transport: via, id: first, url: url}.browser(t)
		streams = append(streams, stream(t, &web.Client, url))
	}
	sessions := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for _, resumed := range []bool{false, true} {
		if state := requestWith(t, d.SSE, sessions); state.DidResume != resumed {
			t.Fatalf("resumed a session: %t, want %t", state.DidResume, resumed)
		}
	}

	replace := func(old, with string) {
		t.Helper()

		content, err := os.ReadFile(with)
		if err := errors.Join(err, os.WriteFile(old+".new", content, 0o600), os.Rename(old+".new", old)); err != nil {
			t.Fatal(err)
		}
	}

	replace(first.certFile, second.certFile)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 15 { // longer than the time between two checks of the files
		if raw, err := shown(d.SSE, first); err != nil || !bytes.Equal(raw, first.pair.Certificate[0]) {
			t.Fatalf("the first certificate is no longer used, although the new key isn't in place yet: %v", err)
		}

		<-tick.C
	}

	replace(first.keyFile, second.keyFile)

	for deadline := time.Now().Add(patience); !wants(second); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the listeners don't use the second certificate")
		}
	}
	if _, err := shown(d.GRPC, first); err == nil {
		t.Error("the replaced authority is still trusted")
	}

	if got := call(t, client(t), http.MethodPost, "http://"+d.REST+"/v1/broadcast", `{"data":"reloaded"}`); !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	for _, lines := range streams {
		awaitLine(t, lines, "data: reloaded")
	}
	// A daemon may forget the sessions of its first certificate, but not fail.
	if state := requestWith(t, d.SSE, sessions); !state.DidResume && !bytes.Equal(state.PeerCertificates[0].Raw, second.pair.Certificate[0]) {
		t.Error("a full handshake uses the first certificate")
	}
}

// requestWith opens a stream over a new connection, and returns the state of its
// handshake.
func requestWith(t *testing.T, addr string, cfg *tls.Config) tls.ConnectionState {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// The response comes after the session ticket.
	if status, err := bufio.NewReader(conn).ReadString('\n'); err != nil || status != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("got %q, %v; want a stream", status, err)
	}
	return conn.ConnectionState()
}

func TestOldTLSIsRejected(t *testing.T) {
	id := newIdentity(t)
	d := start(t, func(cfg *daemon.Config) { cfg.SSE.TLS = daemon.TLS{CertFile: id.certFile, KeyFile: id.keyFile} })
	conn, err := tls.Dial("tcp", d.SSE, &tls.Config{RootCAs: id.pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
}

// TestStreamsOfOneConnectionCount checks that the limit on streams applies to the
// streams of one HTTP/2 connection.
func TestStreamsOfOneConnectionCount(t *testing.T) {
	id := newIdentity(t)
	d := start(t, func(cfg *daemon.Config) {
		cfg.SSE.TLS = daemon.TLS{CertFile: id.certFile, KeyFile: id.keyFile}
		cfg.SSE.MaxConnections = 3
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: id.pool}, ForceAttemptHTTP2: true, MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	web := &http.Client{Transport: transport}
	for range 3 {
		stream(t, web, "https://"+d.SSE+"/events")
	}
	if got := get(t, web, "https://"+d.SSE+"/events"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("the fourth stream gets %s", got)
	}
}
