package browsertest

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/prometheus/procfs"
)

// StartIsolated is like [Start], but the browser shares no process with other tests, and
// each of its tabs has a process of its own, for [Tab.Freeze] and [Tab.Crash].
func StartIsolated(tb testing.TB, kind Kind) *Browser {
	tb.Helper()

	if kind == WebKit { // it always is
		return Start(tb, kind)
	}

	alone := &processes{dir: tb.TempDir(), isolated: true, chromiumPrograms: running.chromiumPrograms}

	tb.Cleanup(alone.stop)

	return alone.start(tb, kind)
}

// Freeze stops the tab's process. Scripts stop without any notice, and calls for the tab
// wait until [Tab.Thaw].
func (p *Tab) Freeze(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGSTOP)
}

// Thaw continues a process that [Tab.Freeze] has stopped.
func (p *Tab) Thaw(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGCONT)
}

// Crash kills the tab's process. Afterwards, the tab must not be used any more.
func (p *Tab) Crash(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGKILL)
}

// FindProcess finds the tab's process, which the other methods here need.
func (p *Tab) FindProcess(tb testing.TB) {
	tb.Helper()

	// The process is the one that takes the memory of a script.
	const size = 32 << 20

	before := memories(tb, p.page.browserProcess())
	p.Eval(tb, fmt.Sprintf(`(window.memory = new Uint8Array(%d).fill(1)).length`, size), nil)

	var grown []int

	after := memories(tb, p.page.browserProcess())
	for pid, bytes := range after {
		if bytes-before[pid] > size/2 {
			grown = append(grown, pid)
		}
	}

	p.Eval(tb, `delete window.memory`, nil)

	if len(grown) != 1 {
		tb.Fatalf("%s: find the process of a tab: processes %v take more memory; before: %v; after: %v", p.kind, grown, before, after)
	}

	p.process = grown[0]
}

func (p *Tab) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()

	if p.process == 0 {
		tb.Fatalf("%s: the process of the tab is unknown; call FindProcess", p.kind)
	}

	if err := syscall.Kill(p.process, s); err != nil {
		tb.Fatalf("%s: send %v to the process of a tab: %v", p.kind, s, err)
	}
}

// memories returns the resident memory of the descendants of a process, in bytes.
func memories(tb testing.TB, root int) map[int]int {
	tb.Helper()

	all, err := procfs.AllProcs()
	if err != nil {
		tb.Fatal(err)
	}

	stats := map[int]procfs.ProcStat{}

	for _, proc := range all {
		stat, err := proc.Stat()

		switch {
		case err == nil:
			stats[proc.PID] = stat
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH): // it has exited
			tb.Fatal(err)
		}
	}

	found := map[int]int{}

	for pid, stat := range stats {
		for parent := stat.PPID; parent > 1; parent = stats[parent].PPID {
			if parent == root {
				found[pid] = stat.ResidentMemory()
			}
		}
	}

	return found
}
