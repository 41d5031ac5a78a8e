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

// TestStormOfConnections has connections wait for the daemon while it is stopped,
// so that it accepts them all at once however slow the machine is.
func TestStormOfConnections(t *testing.T) {
	t.Parallel()

	p := startProcess(t, "unset GOGC")
	usual := collectorPercent(t, p.REST)

	const storm = 400 // connections, which the listener's backlog holds

	if err := await("a storm", func() bool {
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}

		conns := make([]net.Conn, storm)
		for i := range conns {
			conns[i] = connect(t, p.SSE)
		}

		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}

		during := collectorPercent(t, p.REST)
		for tries := 0; during == usual && tries < 3; tries++ {
			during = collectorPercent(t, p.REST) // it may not have looked yet
		}

		for _, conn := range conns {
			_ = conn.Close()
		}

		return during > usual
	}); err != nil {
		t.Fatal(err)
	}

	if err := await("the calm after it", func() bool { return collectorPercent(t, p.REST) == usual }); err != nil {
		t.Error(err)
	}
}

// collectorPercent returns the growth of the heap between two collections.
func collectorPercent(t *testing.T, rest string) int {
	t.Helper()

	return metric(t, rest, "go_gc_gogc_percent")
}

// metric returns the value of a metric that has no labels and is a whole number.
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
