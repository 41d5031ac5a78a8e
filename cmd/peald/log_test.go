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

	"github.com/peald/peald/internal/pealdtest"
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

// follow reads a pipe that a daemon writes to, until nobody does or reader is
// closed. Then it closes read.
func follow(reader io.Reader) (log *pealdtest.Log, read chan struct{}) {
	log, read = &pealdtest.Log{}, make(chan struct{})

	go func() {
		defer close(read)

		_, _ = io.Copy(log, reader)
	}()

	return log, read
}

// leaveLine makes a call that leaves a line in the log.
func leaveLine(t *testing.T, rest string) {
	t.Helper()

	client := http.Client{Timeout: patience}

	resp, err := client.Post("http://"+rest+"/v1/users/alice:disconnect", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("a call gets %s, %v", resp.Status, err)
	}
}

// lostLines returns the daemon's own count of lost lines.
func lostLines(t *testing.T, rest string) int {
	t.Helper()

	return metric(t, rest, "peald_log_lines_lost_total")
}

// endsWell sends a daemon SIGTERM and expects the exit status 0.
func endsWell(t *testing.T, p process) {
	t.Helper()

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()

	if err := await("the end", func() bool { return len(ended) > 0 }); err != nil {
		t.Fatal(err)
	}

	if err := <-ended; err != nil {
		t.Errorf("the daemon ends with %v", err)
	}
}

// TestLogReaderGoesAway: the daemon serves without a log, and reports what was
// lost to the next reader.
func TestLogReaderGoesAway(t *testing.T) {
	t.Parallel()

	for name, setup := range map[string]string{"default": "", "SIGPIPE ignored": "trap '' PIPE; "} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := logPipe(t)
			reader := openLogPipe(t, path)
			p := startProcess(t, fmt.Sprintf("%sexec 1>%[2]s 2>%[2]s", setup, path), "--demo")

			log, read := follow(reader)
			if err := await("the last line of the start", func() bool { return strings.Contains(log.String(), "msg=settings") }); err != nil {
				t.Fatal(err)
			}

			_ = reader.Close()
			<-read

			// A process that is being started at the same time may hold the
			// reader for a moment longer.
			if err := await("lost lines in the metrics", func() bool {
				leaveLine(t, p.REST)

				return lostLines(t, p.REST) >= 3
			}); err != nil {
				t.Fatal(err)
			}

			log, read = follow(openLogPipe(t, path))
			reported := func() bool {
				return strings.Contains(log.String(), fmt.Sprintf(`level=WARN msg="log lines lost" lost=%d`, lostLines(t, p.REST)))
			}

			if err := await("the report", reported); err != nil {
				t.Fatalf("%v: %s", err, log)
			}

			endsWell(t, p)
			<-read

			if !strings.Contains(log.String(), "msg=ended") {
				t.Errorf("the last line is missing: %s", log)
			}
		})
	}
}

// TestLogReaderStalls: neither calls nor the end wait for the reader.
func TestLogReaderStalls(t *testing.T) {
	t.Parallel()

	path := logPipe(t)
	_ = openLogPipe(t, path)
	p := startProcess(t, fmt.Sprintf("exec 1>%[1]s 2>%[1]s", path))

	// More than any pipe holds.
	for range 1500 {
		leaveLine(t, p.REST)
	}

	endsWell(t, p)
}

// TestErrorsAtStartAppear: also where there is no daemon yet.
func TestErrorsAtStartAppear(t *testing.T) {
	t.Parallel()

	for arg, want := range map[string]string{
		"--sse.addr=nowhere":    "peald: sse.addr: ",
		"--no-such-flag":        "peald: unknown flag: --no-such-flag\n",
		"--config=/no/such.yml": "peald: ",
	} {
		out, err := exec.CommandContext(t.Context(), "peald", arg).CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), want) || bytes.Count(out, []byte{'\n'}) != 1 {
			t.Errorf("peald %s ends with %v and %q", arg, err, out)
		}
	}
}

// libraryLogs logs as libraries do, once the log is theirs.
func libraryLogs() {
	adoptLibraryLogs(slog.New(slog.NewTextHandler(os.Stdout, nil)))
	stdlog.Print("by package log")
	slog.Warn("by package slog")
	grpclog.Error("by grpc")
	grpclog.Info("an information of grpc")
}

func TestLibrariesLogWhereTheDaemonDoes(t *testing.T) {
	t.Parallel()

	cmd := exec.CommandContext(t.Context(), "library-logs")

	var stderr bytes.Buffer

	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("it ends with %v and %q", err, &stderr)
	}

	for _, part := range []string{"by package log", "by package slog", "by grpc"} {
		if !strings.Contains(string(out), part) {
			t.Errorf("the log lacks %q: %s", part, out)
		}
	}

	if strings.Contains(string(out), "an information") {
		t.Errorf("the log has what grpc keeps to itself: %s", out)
	}
}
