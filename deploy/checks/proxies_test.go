package checks_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Nginx is run, in front of daemons, by the tests in e2e/.

func TestHAProxyUnderstands(t *testing.T) {
	haproxy := program(t, "haproxy")
	conf := read(t, "../haproxy/haproxy.cfg")

	const certificate = "/etc/haproxy/certs/events.example.com.pem"
	if strings.Count(conf, certificate) != 1 {
		t.Fatalf("there is not one %s in the configuration", certificate)
	}

	conf = strings.Replace(conf, certificate, selfSigned(t), 1)

	// -dW: warnings are errors.
	out, err := exec.CommandContext(t.Context(), haproxy, "-c", "-dW", "-f", write(t, "haproxy.cfg", conf)).CombinedOutput()
	if err != nil {
		t.Errorf("haproxy -c: %v\n%s", err, out)
	}
}

func TestCaddyUnderstands(t *testing.T) {
	caddy := program(t, "caddy")

	cmd := exec.CommandContext(t.Context(), caddy, "validate", "--adapter", "caddyfile", "--config", "../caddy/Caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())

	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), `"level":"warn"`) {
		t.Errorf("caddy validate: %v\n%s", err, out)
	}
}

// selfSigned returns the path of a certificate and its key in one file.
func selfSigned(t *testing.T) string {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}

	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}

	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	return write(t, "certificate.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func read(t *testing.T, path string) string {
	t.Helper()

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	return string(content)
}

// write writes a file into a folder that goes with the test.
func write(t *testing.T, name, content string) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}
