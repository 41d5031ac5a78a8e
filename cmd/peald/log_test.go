//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/grpclog"

	"github.com/peald/peald/internal/testbed"
)

// logPipe returns the path of a named pipe.
func logPipe(t *testing.T) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

// openLogPipe opens a pipe for reading. It doesn't wait for a writer.
func openLogPipe(t *testing.T, path string) *os.File {
	t.Helper()

	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = reader.Close() })

	return reader
}

// follow reads a daemon's log from a pipe until the last writer or reader closes
// it. Then it closes done.
func follow(reader io.Reader) (log *testbed.Log, done chan struct{}) {
	log, done = &testbed.Log{}, make(chan struct{})

	go func() {
		defer close(done)

		_, _ = io.Copy(log, reader)
	}()

	return log, done
}

// logLine makes a call that the daemon logs as one line.
func logLine(t *testing.T, rest string) {
	t.Helper()

	client := http.Client{Timeout: patience}

	resp, err := client.Post("http://"+rest+"/v1/users/alice:disconnect", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("call: %s, %v", resp.Status, err)
	}
}

// lostLines returns the number of lost lines that the daemon reports.
func lostLines(t *testing.T, rest string) int {
	t.Helper()

	return metric(t, rest, "peald_log_lines_lost_total")
}

// shutDown sends SIGTERM to a daemon and expects exit status 0.
func shutDown(t *testing.T, p process) {
	t.Helper()

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	exited := make(chan error, 1)
	go func() { exited <- p.cmd.Wait() }()

	if err := await("the exit", func() bool { return len(exited) > 0 }); err != nil {
		t.Fatal(err)
	}

	if err := <-exited; err != nil {
		t.Errorf("exit: %v", err)
	}
}

// TestLogReaderCloses checks that the daemon keeps serving without a log, and
// reports the number of lost lines to the next reader.
func TestLogReaderCloses(t *testing.T) {
	t.Parallel()

	for name, setup := range map[string]string{"default": "", "SIGPIPE ignored": "trap '' PIPE; "} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := logPipe(t)
			reader := openLogPipe(t, path)
			p := startProcess(t, fmt.Sprintf("%sexec 1>%[2]s 2>%[2]s", setup, path), "--demo")

			log, done := follow(reader)
			if err := await("the last log line of the start", func() bool { return strings.Contains(log.String(), `msg="configuration loaded"`) }); err != nil {
				t.Fatal(err)
			}

			_ = reader.Close()
			<-done

			// A process that another test starts at this moment may keep the reader
			// open a little longer.
			if err := await("lost lines in the metrics", func() bool {
				logLine(t, p.REST)

				return lostLines(t, p.REST) >= 3
			}); err != nil {
				t.Fatal(err)
			}

			log, done = follow(openLogPipe(t, path))
			reported := func() bool {
				return strings.Contains(log.String(), fmt.Sprintf(`level=WARN msg="log lines lost" lost=%d`, lostLines(t, p.REST)))
			}

			if err := await("the report of lost lines", reported); err != nil {
				t.Fatalf("%v: %s", err, log)
			}

			shutDown(t, p)
			<-done

			if !strings.Contains(log.String(), "msg=stopped") {
				t.Errorf("the last line is missing: %s", log)
			}
		})
	}
}

// TestLogReaderStalls checks that neither calls nor the shutdown wait for the reader.
func TestLogReaderStalls(t *testing.T) {
	t.Parallel()

	path := logPipe(t)
	_ = openLogPipe(t, path)
	p := startProcess(t, fmt.Sprintf("exec 1>%[1]s 2>%[1]s", path))

	// More lines than a pipe buffers.
	for range 1500 {
		logLine(t, p.REST)
	}

	shutDown(t, p)
}

// TestStartErrors checks that errors that occur before the daemon starts are
// printed.
func TestStartErrors(t *testing.T) {
	t.Parallel()

	for arg, want := range map[string]string{
		"--sse.addr=nowhere":    "peald: sse.addr: ",
		"--no-such-flag":        "peald: unknown flag: --no-such-flag\n",
		"--config=/no/such.yml": "peald: ",
	} {
		out, err := exec.CommandContext(t.Context(), "peald", arg).CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), want) || bytes.Count(out, []byte{'\n'}) != 1 {
			t.Errorf("peald %s: %v, output %q", arg, err, out)
		}
	}
}

// libraryLogs logs through the loggers that libraries use.
func libraryLogs() {
	adoptLibraryLogs(slog.New(slog.NewTextHandler(os.Stdout, nil)))
	stdlog.Print("by package log")
	slog.Warn("by package slog")
	grpclog.Error("by grpc")
	grpclog.Info("grpc info")
}

func TestLibraryLogs(t *testing.T) {
	t.Parallel()

	cmd := exec.CommandContext(t.Context(), "library-logs")

	var stderr bytes.Buffer

	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("exit: %v, stderr %q", err, &stderr)
	}

	for _, part := range []string{"by package log", "by package slog", "by grpc"} {
		if !strings.Contains(string(out), part) {
			t.Errorf("the log lacks %q: %s", part, out)
		}
	}

	if strings.Contains(string(out), "grpc info") {
		t.Errorf("the log has info lines from grpc: %s", out)
	}
}
