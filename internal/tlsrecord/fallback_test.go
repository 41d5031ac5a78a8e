package tlsrecord_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestFallback continues on crypto/tls where the layer can't take over.
func TestFallback(t *testing.T) {
	server, client := configs(t)
	client.MaxVersion = tls.VersionTLS12
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	h := tlsrecord.NewHandshaker(server, 1, nil)

	for _, resumed := range []bool{false, true} {
		checkFallback(t, connect(t, h, client))

		if got := h.Stats().Resumed == 1; got != resumed {
			t.Errorf("statistics %+v", h.Stats())
		}
	}
}

// checkFallback exchanges data over crypto/tls.
func checkFallback(t *testing.T, p *peers) {
	t.Helper()

	if p.layer != nil {
		t.Fatal("the connection has a layer")
	}

	for _, message := range []string{"ping", strings.Repeat("long ", 10000)} {
		var sending sync.WaitGroup

		sending.Go(func() { io.WriteString(p.client, message) })

		got := make([]byte, len(message))
		if _, err := io.ReadFull(p.tls, got); err != nil || string(got) != message {
			t.Fatalf("read %q, %v", got, err)
		}
		sending.Wait()
	}

	if _, err := io.WriteString(p.tls, "pong"); err != nil {
		t.Fatal(err)
	}

	got := make([]byte, 4)
	if _, err := io.ReadFull(p.client, got); err != nil || string(got) != "pong" {
		t.Fatalf("the client read %q, %v", got, err)
	}

	if err := p.tls.Close(); err != nil {
		t.Error(err)
	}

	if _, err := p.client.Read(got); !errors.Is(err, io.EOF) {
		t.Errorf("the client's Read returned %v, want EOF", err)
	}
}

// TestFIPS repeats TestFIPSFallback in FIPS 140 mode, which a process can't change.
func TestFIPS(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFIPSFallback$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on")

	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFIPSFallback")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestFIPSFallback(t *testing.T) {
	if !strings.Contains(os.Getenv("GODEBUG"), "fips140=on") {
		t.Skip("TestFIPS runs this test in FIPS 140 mode")
	}

	server, client := configs(t)
	checkFallback(t, connect(t, tlsrecord.NewHandshaker(server, 1, nil), client))
}

// TestCutOff tests that crypto/tls can't use the connection, and thereby the same
// nonces, after a layer has taken over.
func TestCutOff(t *testing.T) {
	server, client := configs(t)
	p := connect(t, tlsrecord.NewHandshaker(server, 1, nil), client).requireLayer(t)

	if _, err := p.tls.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write returned %v, want net.ErrClosed", err)
	}

	if _, err := p.tls.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read returned %v, want net.ErrClosed", err)
	}

	p.tls.Close()
	p.exchange(t, "still open", "still open")
	p.closeBoth(t)
}
