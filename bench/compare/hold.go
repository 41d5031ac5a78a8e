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

// part is what one process holds of a cluster's streams: one daemon's, since a
// process may have no more descriptors for them than the daemon.
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

// hold is a process that holds a part. It says when its streams are open, waits
// for a line to begin, and then says what came.
func hold(ctx context.Context, text string, stdin io.Reader, stdout io.Writer) error {
	var p part
	if err := json.Unmarshal([]byte(text), &p); err != nil { //nolint:musttag // This program wrote it.
		return fmt.Errorf("what to hold: %w", err)
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
		return fmt.Errorf("waiting to begin: %w", err)
	}
	result, err := streams.Measure(ctx, p.Load)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

// silent publishes nothing: somebody else does.
type silent struct{}

// Publish implements [bench.Publisher].
func (silent) Publish(context.Context, string, string) error { return nil }

// Token implements [bench.Publisher].
func (silent) Token(context.Context, string) (string, error) {
	return "", errors.New("the streams belong to nobody")
}

// holder is a process that holds a part, from outside.
type holder struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
	said  strings.Builder // to its standard error
}

// startHolder starts a process that begins to open its streams.
func startHolder(ctx context.Context, p part) (*holder, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	text, err := json.Marshal(p) //nolint:musttag // This program reads it.
	if err != nil {
		return nil, fmt.Errorf("what to hold: %w", err)
	}
	h := &holder{cmd: exec.CommandContext(ctx, self, "-"+holdFlag, string(text))} //nolint:gosec // This very program.
	h.cmd.Stderr = &h.said
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start what holds streams: %w", err)
	}
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start what holds streams: %w", err)
	}
	h.lines = bufio.NewReader(stdout)
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start what holds streams: %w", err)
	}
	return h, nil
}

// opened waits until all its streams are open.
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

// result waits for what came.
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

// failed is why the process did not do its part.
func (h *holder) failed(err error) error {
	h.end()
	return fmt.Errorf("what holds streams has ended: %w: %s", err, strings.TrimSpace(h.said.String()))
}

// end ends the process.
func (h *holder) end() {
	_ = h.stdin.Close()
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	_ = h.cmd.Wait() // a signal is how it ends
}
