package clients_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// secured is a daemon with TLS, or without if it has no certificate.
type secured struct {
	*pealdtest.Daemon

	certFile string
}

func startSecured(t *testing.T, certFile, keyFile string) secured {
	t.Helper()

	return secured{certFile: certFile, Daemon: pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.SSE.TLS = daemon.TLS{CertFile: certFile, KeyFile: keyFile}
		cfg.SSE.Retry = retry
		// Events must arrive without a heartbeat.
		cfg.SSE.Heartbeat = patience
	})}
}

// newRSACertificate creates a certificate with an RSA key.
func newRSACertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()

	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	out, err := exec.CommandContext(t.Context(), testbed.Program(t, "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes",
		"-subj", "/CN=peald test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1", "-keyout", keyFile, "-out", certFile).CombinedOutput()
	if err != nil {
		t.Fatalf("create a certificate: %v\n%s", err, out)
	}

	return certFile, keyFile
}

// program is a client that prints the lines of a stream.
type program struct {
	name    string
	daemon  secured
	command []string
	input   string   // what it gets on its standard input
	wants   []string // what it prints before the first event, in this order
	streams int32    // that it opens; 1 if 0
	netHTTP bool     // net/http holds the streams

	stdin  io.Writer
	output testbed.Log
	kill   func()
	exited chan struct{}
	err    error // from Wait
}

// start starts the program, which is killed after the test.
func (p *program) start(t *testing.T) {
	t.Helper()

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+p.daemon.certFile, "NODE_NO_WARNINGS=1")

	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p.stdin, p.input); err != nil {
		t.Fatal(err)
	}

	p.exited = make(chan struct{})
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
	}()
	p.kill = func() {
		cancel()
		<-p.exited
	}
	t.Cleanup(p.kill)
}

// waitFor waits until the program has printed parts, in this order.
func (p *program) waitFor(t *testing.T, parts ...string) {
	t.Helper()

	// The output is long, so it isn't searched as often as by testbed.Eventually.
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()

	late := time.Now().Add(patience)
	for !p.hasPrinted(parts) {
		if time.Now().After(late) {
			text := p.output.String()
			t.Fatalf("%s hasn't printed %.100q:\n%s", p.name, parts, text[:min(len(text), 4000)])
		}
		<-tick.C
	}
}

// hasPrinted reports whether the program has printed parts, in this order.
func (p *program) hasPrinted(parts []string) bool {
	rest := p.output.String()
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}

	return true
}

// waitForEnd waits until the program has exited without an error.
func (p *program) waitForEnd(t *testing.T) {
	t.Helper()

	<-p.exited
	if p.err != nil {
		t.Errorf("%s: %v", p.name, p.err)
	}
}

// TestHTTPS opens streams over HTTPS and HTTP/2 with common programs. They must
// receive events immediately, a large one completely, and see a graceful end when
// the daemon drains.
func TestHTTPS(t *testing.T) {
	t.Parallel()

	if *only != "" {
		t.Skip("-clients is set")
	}

	certificate := testbed.NewCertificate(t)
	ecdsa := startSecured(t, certificate.CertFile, certificate.KeyFile)
	rsaCert, rsaKey := newRSACertificate(t)
	rsa := startSecured(t, rsaCert, rsaKey)
	plain := startSecured(t, "", "")

	programs := append(curlPrograms(t, ecdsa, rsa, plain), opensslPrograms(t, ecdsa, rsa)...)
	programs = append(programs, scriptPrograms(t, ecdsa, plain)...)

	for _, d := range []secured{ecdsa, rsa, plain} {
		testPrograms(t, d, programs)
	}
}

// testPrograms runs the programs for d at the same time.
func testPrograms(t *testing.T, d secured, all []*program) {
	t.Helper()

	var programs []*program
	var streams, netHTTP int32
	for _, p := range all {
		if p.daemon == d {
			programs = append(programs, p)
			streams += max(p.streams, 1)
			if p.netHTTP {
				netHTTP++
			}
			p.start(t)
		}
	}
	for _, p := range programs {
		p.waitFor(t, append(p.wants, "id: ")...)
	}
	d.WaitForStreams(t, streams)
	wantNetHTTP(t, d, netHTTP)

	random := make([]byte, 3<<18)
	_, _ = rand.Read(random)
	control := control(t, d.GRPC)
	for _, data := range []string{"small", strings.Repeat("compressible ", 100) + "!", base64.StdEncoding.EncodeToString(random)} {
		if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: data}); err != nil {
			t.Fatal(err)
		}
		for _, p := range programs {
			p.waitFor(t, "data: "+data+"\n")
		}
	}

	d.Stop(t)
	for _, p := range programs {
		p.waitForEnd(t)
	}
}

// wantNetHTTP checks how many of the daemon's streams net/http holds.
func wantNetHTTP(t *testing.T, d secured, want int32) {
	t.Helper()

	resp, err := http.Get(d.URL("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if count := fmt.Sprintf("\npeald_connections_by_engine{engine=\"nethttp\"} %d\n", want); !strings.Contains(string(metrics), count) {
		t.Errorf("the metrics don't contain %q", count)
	}
}

func curlPrograms(t *testing.T, ecdsa, rsa, plain secured) (programs []*program) {
	t.Helper()

	curl := testbed.Program(t, "curl")
	add := func(d secured, status, coding string, args ...string) {
		scheme := "http://"
		if d.certFile != "" {
			scheme = "https://"
			args = append(args, "--cacert", d.certFile)
		}
		command := append([]string{curl, "-sSiN", scheme + d.SSE + "/events"}, args...)
		wants := []string{status}
		netHTTP := d.certFile != "" && slices.Contains(args, "--tls-max")
		if coding != "" {
			wants = append(wants, "ncoding: "+coding) // HTTP/2 has names in lower case
		}
		programs = append(programs, &program{name: "curl " + strings.Join(args, " "), daemon: d, command: command, wants: wants, netHTTP: netHTTP})
	}

	add(ecdsa, "HTTP/1.1 200", "chunked", "--http1.1")
	add(ecdsa, "HTTP/2 200", "", "--http2")
	add(ecdsa, "HTTP/1.1 200", "gzip", "--http1.1", "--compressed")
	add(ecdsa, "HTTP/2 200", "gzip", "--http2", "--compressed")
	add(ecdsa, "HTTP/1.1 200", "chunked", "--http1.1", "--tls-max", "1.2")
	add(ecdsa, "HTTP/2 200", "gzip", "--http2", "--compressed", "--tls-max", "1.2")
	// With ALPN, it would offer http/1.0, which Go doesn't support. The version in a
	// response is the server's (RFC 9110 §6.2).
	add(ecdsa, "HTTP/1.1 200", "", "--http1.0", "--no-alpn")
	add(rsa, "HTTP/1.1 200", "chunked", "--http1.1")
	add(rsa, "HTTP/2 200", "gzip", "--http2", "--compressed")
	add(plain, "HTTP/1.1 200", "gzip", "--compressed")
	add(plain, "HTTP/2 200", "", "--http2-prior-knowledge")
	add(plain, "HTTP/2 200", "gzip", "--http2-prior-knowledge", "--compressed")
	// It offers an upgrade, which peald doesn't accept.
	add(plain, "HTTP/1.1 200", "chunked", "--http2")

	return programs
}

func opensslPrograms(t *testing.T, ecdsa, rsa secured) (programs []*program) {
	t.Helper()

	openssl := testbed.Program(t, "openssl")
	add := func(d secured, cipher string, args ...string) {
		programs = append(programs, &program{
			name: "openssl s_client " + strings.Join(args, " "), daemon: d,
			command: append([]string{openssl, "s_client", "-brief", "-verify_return_error", "-CAfile", d.certFile, "-connect", d.SSE}, args...),
			input:   streamRequest,
			wants:   []string{"Ciphersuite: " + cipher, "HTTP/1.1 200 OK"},
		})
	}

	const aes128, aes256, chacha = "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"
	for _, cipher := range []string{aes128, aes256, chacha} {
		add(ecdsa, cipher, "-ciphersuites", cipher)
		add(rsa, cipher, "-ciphersuites", cipher, "-noservername")
	}
	add(ecdsa, "", "-servername", "localhost")
	add(ecdsa, "", "-groups", "X448:X25519") // its first key share needs a HelloRetryRequest
	add(ecdsa, "", "-groups", "P-521")
	add(ecdsa, "", "-alpn", "http/1.1")
	add(rsa, "", "-groups", "X448:P-256")
	// The ClientHello takes several records.
	add(ecdsa, "", "-max_send_frag", "512", "-alpn", strings.Repeat("another protocol,", 60)+"http/1.1")
	add(ecdsa, "", "-split_send_frag", "20", "-max_send_frag", "512")

	return programs
}

// streamRequest is a request for a stream over HTTP/1.1.
const streamRequest = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"

func scriptPrograms(t *testing.T, ecdsa, plain secured) []*program {
	t.Helper()

	node := testbed.Program(t, "node")
	python := testbed.Program(t, "/usr/bin/python3", "python3")
	dir := nodeDrivers(t)
	events, script := "https://"+ecdsa.SSE+"/events", filepath.Join(dir, "https.mjs")
	modules := []string{"eventsource-2", "eventsource-3", "eventsource-4", "eventsource-5", "launchdarkly-eventsource"}

	programs := []*program{
		{name: "node:http2", daemon: ecdsa, command: []string{node, script, "http2", events}, wants: []string{"status: 200"}},
		{name: "node:http2 without TLS", daemon: plain, command: []string{node, script, "http2", "http://" + plain.SSE + "/events"}, wants: []string{"status: 200"}},
		{name: "Node's fetch", daemon: ecdsa, command: []string{node, script, "fetch", events}, wants: []string{"content-encoding: gzip"}},
		{name: "EventSource in Node", daemon: ecdsa, command: []string{node, script, strings.Join(modules, ","), events}, streams: int32(len(modules))},
	}
	for _, library := range []string{"http.client", "httpx"} {
		programs = append(programs, &program{
			name: "Python " + library, daemon: ecdsa, wants: []string{"content-encoding: gzip"},
			command: []string{python, absolute(t, "python", "https.py"), library, ecdsa.certFile, ecdsa.SSE},
		})
	}

	return programs
}
