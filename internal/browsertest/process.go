package browsertest

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"time"

	"github.com/peald/peald/internal/pealdtest"
)

// process is a program that was started and has to be stopped.
type process struct {
	log pealdtest.Log // its standard output and standard error

	cmd   *exec.Cmd
	ended chan struct{}
}

// startProcess starts a program. On Linux it doesn't outlive this process,
// however this one ends.
func startProcess(env []string, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})} //nolint:gosec,noctx // A test names it, and it lives until stop.
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	bindLife(p.cmd)

	started := make(chan error)

	go func() {
		// The kernel takes the end of the thread for that of the parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)

		err := p.cmd.Start()
		started <- err

		if err == nil {
			_ = p.cmd.Wait()
		}
	}()

	if err := <-started; err != nil {
		return nil, err
	}

	return p, nil
}

// waitForOutput returns what the first group of a pattern matched in the
// program's output, once it is there.
func (p *process) waitForOutput(pattern *regexp.Regexp) (string, error) {
	var match []string

	if pealdtest.Eventually(patience, func() bool {
		match = pattern.FindStringSubmatch(p.log.String())

		return match != nil || p.hasEnded()
	}) && match != nil {
		return match[1], nil
	}

	return "", fmt.Errorf("%s wrote nothing that matches %s, but:\n%s", p.cmd.Path, pattern, &p.log)
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// stop kills the program and those that it started, and waits for its end.
func (p *process) stop() {
	killAll(p.cmd.Process)

	select {
	case <-p.ended:
	case <-time.After(patience): // Something else holds its output open.
	}
}
