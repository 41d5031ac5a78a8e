package browsertest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
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

// FindProcess finds the tab's process, which the other methods here need. The tab has to
// react for that.
func (p *Tab) FindProcess(tb testing.TB) {
	tb.Helper()

	// The process is the one that takes the CPU time of a script. The browser's own
	// processes take some as well, but no more than milliseconds.
	const enough, factor = 0.05, 4 // seconds

	for loops := 20_000_000; ; loops *= 2 {
		before := cpuTimes(tb, p.page.browserProcess())
		p.Eval(tb, fmt.Sprintf(`((sum) => { for (let i = 0; i < %d; i++) sum += Math.sqrt(i); return sum })(0)`, loops), nil)

		type usage struct {
			pid     int
			seconds float64
		}

		var used []usage

		for pid, seconds := range cpuTimes(tb, p.page.browserProcess()) {
			used = append(used, usage{pid, seconds - before[pid]})
		}

		slices.SortFunc(used, func(a, b usage) int { return cmp.Compare(b.seconds, a.seconds) })

		if len(used) > 1 && used[0].seconds >= enough && used[0].seconds >= factor*used[1].seconds {
			p.process = used[0].pid

			return
		}

		if tb.Context().Err() != nil {
			tb.Fatalf("%s: find the process of a tab: %v", p.kind, used)
		}
	}
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

// cpuTimes returns the CPU times of the descendants of a process, in seconds.
func cpuTimes(tb testing.TB, root int) map[int]float64 {
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

	times := map[int]float64{}

	for pid, stat := range stats {
		for parent := stat.PPID; parent > 1; parent = stats[parent].PPID {
			if parent == root {
				times[pid] = stat.CPUTime()
			}
		}
	}

	return times
}
