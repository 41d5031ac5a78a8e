package proxies_test

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// setup holds the values that replace the examples in a file in deploy/.
type setup struct {
	dir      string // the proxy's working directory
	addr     string
	cert     string // PEM files: certificate, key, and both in one file
	key      string
	both     string
	backends []string
	origin   string
	idle     time.Duration // the timeout for silent streams; 0 keeps the file's
	retry    time.Duration // the reconnection time while no daemon is reachable; 0 keeps the file's
}

// command holds the configuration, arguments and environment for running a proxy.
type command struct {
	conf string
	args []string // without the program; %s stands for the path of conf
	env  []string
}

// backend is the daemon's address in the files in deploy/.
const backend = "127.0.0.1:8080"

// withFiles replaces the paths of the certificate and its key.
func (s setup) withFiles(t *testing.T, conf string) string {
	t.Helper()

	conf = replaced(t, conf, "/etc/ssl/certs/events.example.com.pem", s.cert)

	return replaced(t, conf, "/etc/ssl/private/events.example.com.key", s.key)
}

// withBackends repeats a line for each daemon.
func (s setup) withBackends(t *testing.T, conf, line string) string {
	t.Helper()

	var lines strings.Builder

	for i, addr := range s.backends {
		one := replaced(t, line, backend, addr)
		lines.WriteString(strings.Replace(one, "server one ", fmt.Sprintf("server number%d ", i), 1))
	}

	return replaced(t, conf, line, lines.String())
}

// withRetry replaces the reconnection time while no daemon is reachable.
func (s setup) withRetry(conf string) string {
	if s.retry == 0 {
		return conf
	}

	return strings.ReplaceAll(conf, "retry: 3000", fmt.Sprintf("retry: %d", s.retry.Milliseconds()))
}

// withTimeouts replaces a timeout for silent streams.
func (s setup) withTimeouts(t *testing.T, conf, old, format string) string {
	t.Helper()

	return replaced(t, conf, old, timeout(format, s.idle, 60))
}

func timeout(format string, idle time.Duration, otherwise int) string {
	if idle > 0 {
		otherwise = int(idle.Seconds())
	}

	return fmt.Sprintf(format, otherwise)
}

// replaced replaces the only occurrence of old. Any other number is an error.
func replaced(t *testing.T, text, old, with string) string {
	t.Helper()

	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%q occurs %d times in the configuration, want once", old, n)
	}

	return strings.Replace(text, old, with, 1)
}

func deploy(path string) string { return filepath.Join("../../deploy", path) }

func read(t *testing.T, path string) string {
	t.Helper()

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	return string(content)
}

// write writes a file that other users can read, because some proxies run as
// another user.
func write(t *testing.T, path, content string) {
	t.Helper()

	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func userName(t *testing.T) string {
	t.Helper()

	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}

	return current.Username
}
