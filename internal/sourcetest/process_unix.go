//go:build unix

package sourcetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/peald/peald/internal/testbed"
)

// Servers that a test's program can run as, in processes of their own, so that they can be
// killed.
const (
	// ServerKafka is a fake Kafka broker with the topic "events", which has 12 partitions.
	ServerKafka = "kafka"
	// ServerNATS is a NATS server with JetStream.
	ServerNATS = "nats"
)

// Environment variables of a server's process.
const (
	envServer    = "SOURCETEST_SERVER"
	envAddr      = "SOURCETEST_ADDR"
	envAdvertise = "SOURCETEST_ADVERTISE"
	envDir       = "SOURCETEST_DIR"
)

// Serve runs a server until the process is killed, if [Process] has started the program
// for that. TestMain must call it first.
func Serve() {
	var err error
	switch os.Getenv(envServer) {
	case "":
		return
	case ServerKafka:
		err = serveKafka()
	case ServerNATS:
		err = serveNATS()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}

	select {}
}

func serveKafka() error {
	_, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.SeedTopics(12, "events"), kfake.DataDir(os.Getenv(envDir)),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			listener, err := net.Listen(network, os.Getenv(envAddr)) //nolint:noctx // returns immediately
			return advertised{listener}, err
		}),
	)

	return err
}

// advertised is a listener whose address is that of a proxy.
type advertised struct{ net.Listener }

// Addr implements [net.Listener].
func (advertised) Addr() net.Addr {
	addr, err := net.ResolveTCPAddr("tcp", os.Getenv(envAdvertise))
	if err != nil {
		return &net.TCPAddr{}
	}

	return addr
}

func serveNATS() error {
	host, portText, err := net.SplitHostPort(os.Getenv(envAddr))
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return err
	}

	s, err := server.NewServer(&server.Options{Host: host, Port: port, JetStream: true, StoreDir: os.Getenv(envDir), NoSigs: true})
	if err != nil {
		return err
	}
	s.Start()

	return nil
}

// Process is a server in a process of its own. Its methods must not be called
// concurrently.
type Process struct {
	// Addr is the server's HOST:PORT, which stays the same when it is started again.
	Addr string
	// Proxy is a proxy for the server. Kafka's clients always connect through it.
	Proxy *Proxy

	server string
	dir    string
	log    testbed.Log
	cmd    *exec.Cmd
}

// StartProcess starts a server, which is killed after the test. Its files are kept
// between starts. The test's TestMain must call [Serve].
func StartProcess(tb testing.TB, server string) *Process {
	tb.Helper()

	addr, err := testbed.FreeAddr()
	if err != nil {
		tb.Fatal(err)
	}
	p := &Process{Addr: addr, Proxy: NewProxy(tb, addr), server: server, dir: tb.TempDir()}
	p.Start(tb)
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			text := p.log.String()
			tb.Logf("end of the log of %s:\n%s", server, text[max(0, len(text)-4000):])
		}
	})

	return p
}

// Start starts the server again, and waits until it accepts connections.
func (p *Process) Start(tb testing.TB) {
	tb.Helper()

	program, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p.cmd = exec.Command(program) //nolint:gosec,noctx // the test's own program; runs until Kill
	p.cmd.Env = append(os.Environ(), envServer+"="+p.server, envAddr+"="+p.Addr, envAdvertise+"="+p.Proxy.Addr, envDir+"="+p.dir)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", p.server, err)
	}

	dialer := net.Dialer{Timeout: time.Second}
	if !testbed.Eventually(patience, func() bool {
		conn, err := dialer.DialContext(tb.Context(), "tcp", p.Addr)
		if err != nil {
			return false
		}
		_ = conn.Close()

		return true
	}) {
		tb.Fatalf("%s doesn't accept connections after %s", p.server, patience)
	}
}

// Kill kills the server.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
