//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/peald/peald/internal/bench"
)

// part describes the streams that one process holds: all streams of one daemon,
// since a process can't have more file descriptors than the daemon.
type part struct {
	URL      string // of the daemon's streams
	Publish  string // URL to publish to; empty for all processes but one
	Streams  int
	Run      uint32
	Started  time.Time
	Load     bench.Load
	Patience time.Duration
}

const holdFlag = "hold"

// hold runs in a process that holds the streams of a part. It prints a line when
// its streams are open, waits for a line on stdin, measures, and prints the
// result as JSON.
func hold(ctx context.Context, text string, stdin io.Reader, stdout io.Writer) error {
	var p part
	if err := json.Unmarshal([]byte(text), &p); err != nil { //nolint:musttag // This program wrote it.
		return fmt.Errorf("-hold: %w", err)
	}

	var publisher bench.Publisher = silent{}
	if p.Publish != "" {
		publisher = newPublisher(&running{publish: p.Publish, body: jsonBody})
	}

	streams, err := bench.Open(ctx, bench.Config{
		URL: p.URL, Clients: p.Streams, Readers: 1, Patience: p.Patience,
		Shared: bench.Shared{Run: p.Run, Started: p.Started},
	}, publisher)
	if err != nil {
		return err
	}
	defer streams.Close()

	fmt.Fprintln(stdout, "open")
	if _, err := bufio.NewReader(stdin).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the start line: %w", err)
	}

	result, err := streams.Measure(ctx, p.Load)
	if err != nil {
		return err
	}

	return json.NewEncoder(stdout).Encode(result)
}

// silent publishes nothing, because another process does.
type silent struct{}

// Publish implements [bench.Publisher].
func (silent) Publish(context.Context, string, string) error { return nil }

// Token implements [bench.Publisher].
func (silent) Token(context.Context, string) (string, error) {
	return "", errors.New("streams have no user")
}

// holder is the parent's view of a process that runs hold.
type holder struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Reader
	stderr strings.Builder
}

// startHolder starts a process that opens the streams of p.
func startHolder(ctx context.Context, p part) (*holder, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's path: %w", err)
	}

	text, err := json.Marshal(p) //nolint:musttag // This program reads it.
	if err != nil {
		return nil, fmt.Errorf("-hold: %w", err)
	}

	h := &holder{cmd: exec.CommandContext(ctx, self, "-"+holdFlag, string(text))} //nolint:gosec // This program itself.
	h.cmd.Stderr = &h.stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start a process for streams: %w", err)
	}

	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a process for streams: %w", err)
	}

	h.lines = bufio.NewReader(stdout)
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a process for streams: %w", err)
	}

	return h, nil
}

// opened waits until all streams are open.
func (h *holder) opened() error {
	line, err := h.lines.ReadString('\n')
	if err != nil || line != "open\n" {
		return h.failed(err)
	}
	return nil
}

func (h *holder) begin() error {
	_, err := io.WriteString(h.stdin, "begin\n")
	return err
}

// result waits for the result.
func (h *holder) result() (*bench.Result, error) {
	line, err := h.lines.ReadBytes('\n')
	if err != nil {
		return nil, h.failed(err)
	}
	r := &bench.Result{}
	if err := json.Unmarshal(line, r); err != nil {
		return nil, h.failed(err)
	}
	return r, nil
}

// failed stops the process and returns an error with its stderr.
func (h *holder) failed(err error) error {
	h.end()
	return fmt.Errorf("process for streams failed: %w: %s", err, strings.TrimSpace(h.stderr.String()))
}

// end terminates the process.
func (h *holder) end() {
	_ = h.stdin.Close()
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	_ = h.cmd.Wait() // killed by the signal
}
