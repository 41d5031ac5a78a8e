package proxies_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/internal/testbed"
)

// patience limits each wait for something that takes milliseconds on an idle
// machine.
const patience = time.Minute

// front is a running proxy.
type front struct {
	kind

	addr        string
	certificate testbed.Certificate
	clients     atomic.Int32
}

// start starts the proxy, completing the setup. It is stopped when the test ends.
func (k kind) start(t *testing.T, s setup) *front {
	t.Helper()

	program := testbed.Program(t, k.programs...)
	host := loopback()
	f := &front{kind: k, addr: host + ":18443", certificate: testbed.NewCertificate(t, net.ParseIP(host))}

	// Some proxies read and write as other users.
	dir, err := os.MkdirTemp("", "peald-proxy-") //nolint:usetesting // Other users can't enter t.TempDir.
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}

	s.dir, s.addr = dir, f.addr
	s.cert, s.key, s.both = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "both.pem")
	cert, key := read(t, f.certificate.CertFile), read(t, f.certificate.KeyFile)
	write(t, s.cert, cert)
	write(t, s.key, key)
	write(t, s.both, cert+key)

	c := k.command(t, s, s.withRetry(read(t, deploy(k.file))))
	conf := filepath.Join(dir, "conf")
	write(t, conf, c.conf)

	for i, arg := range c.args {
		c.args[i] = strings.Replace(arg, "%s", conf, 1)
	}

	f.run(t, program, c)

	return f
}

// run starts the proxy and waits until it accepts connections.
func (f *front) run(t *testing.T, program string, c command) {
	t.Helper()

	var log testbed.Log

	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, c.args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Env = append(os.Environ(), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	// Surviving child processes keep its output open.
	cmd.WaitDelay = time.Second

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	exited := make(chan struct{})

	go func() {
		defer close(exited)

		_ = cmd.Wait()
	}()

	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)

		select {
		case <-exited:
		case <-time.After(3 * time.Second):
		}

		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-exited

		text := log.String()

		if !f.logsURLs && strings.Contains(text, "access_token") {
			t.Errorf("the log of %s contains URLs", f.name)
		}

		if t.Failed() {
			t.Logf("the log of %s:\n%s", f.name, text[max(0, len(text)-4000):])
		}
	})

	accepts := func() bool {
		conn, err := net.Dial("tcp", f.addr)
		if err == nil {
			_ = conn.Close()
		}

		return err == nil
	}

	if !eventually(func() bool {
		select {
		case <-exited:
			t.Fatalf("%s exited:\n%s", f.name, &log)
		default:
		}

		return accepts()
	}) {
		t.Fatalf("%s doesn't accept connections", f.name)
	}
}

// eventually waits until done returns true, and reports whether it did so in time.
func eventually(done func() bool) bool {
	return testbed.Poll(patience, 50*time.Millisecond, done)
}

//nolint:gochecknoglobals // Addresses are unique in this process.
var addresses atomic.Int32

// loopback returns a loopback address that no other test uses. All its ports are
// free, and stay free while no process listens on them.
func loopback() string {
	pid := os.Getpid()

	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>8%254, pid&255, addresses.Add(1))
}
