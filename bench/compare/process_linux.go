package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a server process started by this program.
type process struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

// startProcess starts a command that is terminated when this program exits.
func startProcess(name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), exited: make(chan struct{})} //nolint:gosec,noctx // A trusted program; stop terminates it.
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // killed by the signal
		close(p.exited)
	}()
	return p, nil
}

// stop terminates the process, and kills it after 10 s.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// await polls ready until it returns nil, for at most 30 s.
func (p *process) await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()

	for {
		err := ready()
		if err == nil {
			return nil
		}

		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("%s exited: %s", p.cmd.Path, strings.TrimSpace(p.output.String()))
		case <-ctx.Done():
			return fmt.Errorf("%s isn't ready: %w", p.cmd.Path, err)
		}
	}
}

// accepts returns an error until a server accepts connections at address.
func accepts(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// tree returns the PIDs of the process and its descendants.
func (p *process) tree() ([]int, error) {
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", all[i], all[i]))
		if err != nil {
			return nil, fmt.Errorf("list child processes: %w", err)
		}

		for child := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(child)
			if err != nil {
				return nil, fmt.Errorf("list child processes: %w", err)
			}

			all = append(all, pid)
		}
	}

	return all, nil
}

// usage holds a server's CPU time so far, in user and kernel mode, and its
// resident bytes.
type usage struct {
	cpu time.Duration
	rss int64
}

func (p *process) usage() (usage, error) {
	var sum usage
	pids, err := p.tree()
	if err != nil {
		return sum, err
	}

	for _, pid := range pids {
		cpu, err := cpuTime(pid)
		if err != nil {
			return sum, err
		}

		rss, err := residentBytes(pid)
		if err != nil {
			return sum, err
		}

		sum.cpu += cpu
		sum.rss += rss
	}

	return sum, nil
}

// cpuTime reads the CPU clock of a process. It has a resolution of nanoseconds,
// whereas /proc/PID/stat counts hundredths of a second.
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &at); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(at.Nano()), nil
}

func residentBytes(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of a process: %w", err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, errors.New("read the memory of a process: /proc/PID/statm has no second field")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the memory of a process: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}
