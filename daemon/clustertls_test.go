package daemon_test

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// TestNodesVerifyCertificates runs two nodes with certificates from one
// authority. They must reject a third node with a certificate from another
// authority, and clients without a certificate.
func TestNodesVerifyCertificates(t *testing.T) {
	t.Parallel()

	own, other := testbed.NewCertificate(t), testbed.NewCertificate(t)
	var addr string
	with := func(c testbed.Certificate) func(*daemon.Config) {
		return func(cfg *daemon.Config) {
			cfg.Cluster.TLS = daemon.ClusterTLS{CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: own.CertFile}
			cfg.Cluster.Secret = ""                   // only certificates authenticate
			cfg.Cluster.Peers = cfg.Cluster.Peers[:2] // which the first start waits for
		}
	}

	changes := pealdtest.InCluster(t, 3)
	nodes := []*pealdtest.Daemon{
		pealdtest.Start(t, changes[0], with(own), func(cfg *daemon.Config) { addr = cfg.Cluster.Addr }),
		pealdtest.Start(t, changes[1], with(own)),
	}

	stranger := pealdtest.Start(t, changes[2], with(other))
	for _, d := range nodes {
		d.WaitUntilReady(t)
	}

	lines := stream(t, client(t), nodes[1].Events(t, ""))
	if _, err := nodes[0].Control(t).Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "hello"}); err != nil {
		t.Fatal(err)
	}

	awaitLine(t, lines, "data: hello")

	if err := connect(t, addr, own); err != nil {
		t.Errorf("a certificate from the authority is rejected: %v", err)
	}

	for name, c := range map[string]testbed.Certificate{"another authority's": other, "no": {}} {
		if err := connect(t, addr, c); err == nil {
			t.Errorf("%s certificate is accepted", name)
		} else {
			t.Logf("%s certificate: %v", name, err)
		}
	}

	awaitReason(t, stranger, "cluster.tls")
	stats, err := nodes[0].Control(t).Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil || len(stats.GetNodes()) != 2 {
		t.Errorf("nodes are %v, %v, want two", stats.GetNodes(), err)
	}
}

// connect connects to a node like other nodes, and returns nil if the node
// accepts the connection.
func connect(t *testing.T, addr string, c testbed.Certificate) error {
	t.Helper()

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}

	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			t.Fatal(err)
		}

		config.Certificates = []tls.Certificate{pair}
	}

	encrypted := tls.Client(conn, config)
	if err := encrypted.HandshakeContext(t.Context()); err != nil {
		return err
	}
	if _, err := encrypted.Write([]byte("PING\r\n")); err != nil {
		return err
	}

	// A certificate is rejected after the client's side of the handshake.
	if _, err := encrypted.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}

	return nil
}
