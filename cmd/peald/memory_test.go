//go:build unix

package main

import (
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"syscall"
	"testing"
)

// TestConnectionBurst opens connections while the daemon is stopped, so that it
// accepts all of them together even on a slow machine.
func TestConnectionBurst(t *testing.T) {
	t.Parallel()

	p := startProcess(t, "unset GOGC")
	usual := collectorPercent(t, p.REST)

	const burst = 400 // connections; must fit the listener's backlog

	if err := await("a higher GC percentage during the burst", func() bool {
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}

		conns := make([]net.Conn, burst)
		for i := range conns {
			conns[i] = connect(t, p.SSE)
		}

		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}

		during := collectorPercent(t, p.REST)
		for tries := 0; during == usual && tries < 3; tries++ {
			during = collectorPercent(t, p.REST) // the daemon may not have checked yet
		}

		for _, conn := range conns {
			_ = conn.Close()
		}

		return during > usual
	}); err != nil {
		t.Fatal(err)
	}

	if err := await("the usual GC percentage after the burst", func() bool { return collectorPercent(t, p.REST) == usual }); err != nil {
		t.Error(err)
	}
}

// collectorPercent returns the current GC percentage.
func collectorPercent(t *testing.T, rest string) int {
	t.Helper()

	return metric(t, rest, "go_gc_gogc_percent")
}

// metric returns the value of an integer metric without labels.
func metric(t *testing.T, rest, name string) int {
	t.Helper()

	resp, err := http.Get("http://" + rest + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	found := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("/metrics lacks %s", name)
	}

	value, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}

	return value
}
