//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/testbed"
)

// process is a daemon in a separate process.
type process struct {
	daemon.Addresses

	cmd   *exec.Cmd
	log   *testbed.Log
	ready string // path of the ready file
}

// startProcess starts peald from a shell that first runs setup.
func startProcess(t *testing.T, setup string, args ...string) process {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready.json")

	args = append([]string{
		"-c", setup + "\n" + `exec peald "$@"`, "sh",
		"--ready-file", ready, "--sse.addr=127.0.0.1:0", "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0",
	}, args...)

	p := process{cmd: exec.CommandContext(t.Context(), "sh", args...), log: &testbed.Log{}, ready: ready}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", p.log)
		}
	})
	if err := awaitFile(ready); err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}

	content, err := os.ReadFile(ready)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &p.Addresses); err != nil {
		t.Fatal(err)
	}

	return p
}

// connect dials a listener. The connection is closed at the end of the test.
func connect(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// request opens a stream like EventSource.
func request(t *testing.T, addr string) (net.Conn, *http.Response) {
	t.Helper()
	conn := connect(t, addr)
	if _, err := fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", addr); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("opening a stream: %s", resp.Status)
	}
	return conn, resp
}

// heldStreams returns the number of open streams. It uses a new connection to the
// control plane.
func heldStreams(t *testing.T, addr string) int {
	t.Helper()
	conn := connect(t, addr)
	defer conn.Close()
	return heldStreamsOver(t, conn, addr)
}

func heldStreamsOver(t *testing.T, conn net.Conn, addr string) int {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "GET /v1/stats HTTP/1.1\r\nHost: %s\r\n\r\n", addr); err != nil {
		t.Fatal(err)
	}

	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	var stats struct {
		Total struct {
			Connections int `json:"connections"`
		} `json:"total"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("stats: %s, %v", resp.Status, err)
	}

	return stats.Total.Connections
}

func TestDescriptorsReservedForControlPlane(t *testing.T) {
	t.Parallel()
	const limit, streams, callers = 128, 48, 30 // see the shares in package daemon
	p := startProcess(t, fmt.Sprintf("ulimit -n %d", limit))
	want := fmt.Sprintf("limit=%d streams=%d", limit, streams)

	// The output of the process reaches the log asynchronously.
	if err := await("in the log: "+want, func() bool { return strings.Contains(p.log.String(), want) }); err != nil {
		t.Error(err)
	}

	held := make([]net.Conn, 0, streams)
	for range streams {
		conn, resp := request(t, p.SSE)
		if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "retry: ") {
			t.Fatalf("a stream starts with %q, %v", line, err)
		}
		held = append(held, conn)
	}

	for range limit {
		_, resp := request(t, p.SSE)
		body, err := io.ReadAll(resp.Body)
		if text := string(body); err != nil || !strings.HasPrefix(text, "retry: ") || strings.Count(text, "\n") != 2 {
			t.Fatalf("a stream beyond the limit gets %q, %v", text, err)
		}
	}

	if n := heldStreams(t, p.REST); n != streams {
		t.Errorf("%d streams are open, want %d", n, streams)
	}

	// Idle connections use up the descriptors that are left for browsers, but no
	// others.
	for range limit {
		connect(t, p.SSE)
	}

	for range callers {
		caller := connect(t, p.REST)
		if n := heldStreamsOver(t, caller, p.REST); n != streams {
			t.Fatalf("%d streams are open, want %d", n, streams)
		}
	}

	if strings.Contains(p.log.String(), "too many open files") {
		t.Error("the daemon ran out of descriptors")
	}

	// A released slot is reused.
	_ = held[0].Close()
	if err := await("a released slot", func() bool { return heldStreams(t, p.REST) < streams }); err != nil {
		t.Error(err)
	}

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if !strings.Contains(p.log.String(), `cause="terminated signal received"`) {
		t.Error("the log doesn't contain the cause of the shutdown")
	}
}

func TestTooFewDescriptors(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "ulimit -n 64; exec peald --sse.addr 127.0.0.1:0").CombinedOutput()
	const want = "peald: the limit of 64 file descriptors leaves none for streams: raise it (ulimit -n)\n"
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != statusFailed || string(out) != want {
		t.Errorf("exit: %v, output:\n%s", err, out)
	}
}

func TestRaiseSoftLimit(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "ulimit -Sn 256; ulimit -Hn 4096")
	raised := func() bool { return strings.Contains(p.log.String(), "limit=4096 ") }
	if err := await("the hard limit in the log", raised); err != nil {
		t.Error(err)
	}
}

func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	p := startProcess(t, ":", "--drain.timeout=1h")
	// A call with an incomplete body delays the shutdown.
	conn := connect(t, p.REST)
	if _, err := fmt.Fprintf(conn, "POST /v1/broadcast HTTP/1.1\r\nHost: %s\r\nContent-Length: 9\r\n\r\n", p.REST); err != nil {
		t.Fatal(err)
	}

	// Make sure that the call is being served when the signal arrives.
	heldStreams(t, p.REST)
	exited := make(chan error, 1)
	go func() { exited <- p.cmd.Wait() }()
	// The daemon restores the default effect of signals a moment after the first
	// one, so send it repeatedly.
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()

	late := time.After(patience)
	for {
		select {
		case err := <-exited:
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok {
				t.Fatalf("exit: %v", err)
			}
			if state, ok := exit.Sys().(syscall.WaitStatus); !ok || !state.Signaled() || state.Signal() != syscall.SIGTERM {
				t.Errorf("exit: %v, want death by SIGTERM", err)
			}
			if _, err := os.Stat(p.ready); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the ready file still exists: %v", err)
			}

			return
		case <-again.C:
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		case <-late:
			t.Fatal("the daemon is still running")
		}
	}
}

// wantNotified reads a daemon's notifications for systemd until it has received
// all lines of want.
func wantNotified(t *testing.T, from net.Conn, want ...string) {
	t.Helper()
	if err := from.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}

	var all strings.Builder
	buf := make([]byte, 4096)

	for _, line := range want {
		for !strings.Contains("\n"+all.String()+"\n", "\n"+line+"\n") {
			n, err := from.Read(buf)
			if err != nil {
				t.Fatalf("received %q, want %q: %v", all.String(), line, err)
			}
			all.WriteString("\n" + string(buf[:n]))
		}
	}
}

func TestSystemdNotifications(t *testing.T) {
	t.Parallel()
	t.Run("single node", func(t *testing.T) { t.Parallel(); testNotify(t) })
	t.Run("in a cluster", func(t *testing.T) {
		t.Parallel()
		testNotify(t, "--cluster.mode=embedded", "--cluster.dir="+t.TempDir())
	})
}

func testNotify(t *testing.T, args ...string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "peald") //nolint:usetesting // the path of t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	path := filepath.Join(folder, "notify")

	socket, err := new(net.ListenConfig).ListenPacket(t.Context(), "unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	p := startProcess(t, "export NOTIFY_SOCKET="+path, append([]string{"--drain.timeout=7s"}, args...)...)
	conn, ok := socket.(net.Conn)
	if !ok {
		t.Fatalf("%T", socket)
	}

	wantNotified(t, conn, "STATUS=accepting")
	wantNotified(t, conn, "READY=1", "STATUS=serving")

	resp, err := http.Get("http://" + p.REST + "/readyz")
	if err != nil {
		t.Fatal(err)
	}

	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/readyz after READY=1: %s", resp.Status)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	wantNotified(t, conn, "STOPPING=1", "EXTEND_TIMEOUT_USEC=7000000")
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func TestInvalidInheritedSockets(t *testing.T) {
	t.Parallel()
	for names, want := range map[string]string{
		"sse:other":  "names of inherited sockets: sse, other; want sse, grpc and rest",
		"rest:rest":  "names of inherited sockets: rest, rest; want",
		"a:a:a:a":    "names of inherited sockets: a, a, a, a; want",
		"a:b":        "names of inherited sockets: a, b; want",
		"sse":        "inherited socket sse: ",
		"peald.sock": "inherited socket peald.sock: ",
	} {
		t.Run(names, func(t *testing.T) {
			t.Parallel()
			n := strings.Count(names, ":") + 1
			// The files aren't sockets.
			script := fmt.Sprintf("exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null; LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s exec peald", n, names)
			out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != statusFailed || !strings.Contains(string(out), want) {
				t.Errorf("exit: %v, output:\n%s", err, out)
			}
		})
	}
}
