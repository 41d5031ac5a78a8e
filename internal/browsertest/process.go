package browsertest

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"time"

	"github.com/peald/peald/internal/testbed"
)

// process is a running program. The caller must stop it.
type process struct {
	log testbed.Log // its standard output and standard error

	cmd    *exec.Cmd
	exited chan struct{}
}

// startProcess starts a program. On Linux the program never outlives this process.
func startProcess(env []string, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), exited: make(chan struct{})} //nolint:gosec,noctx // chosen by a test; runs until stop
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	bindLife(p.cmd)

	started := make(chan error)

	go func() {
		// The kernel kills the program when this thread exits.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)

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

// waitForOutput waits until the output matches pattern, and returns the text of the
// first group.
func (p *process) waitForOutput(pattern *regexp.Regexp) (string, error) {
	var match []string

	if testbed.Eventually(patience, func() bool {
		match = pattern.FindStringSubmatch(p.log.String())

		return match != nil || p.hasExited()
	}) && match != nil {
		return match[1], nil
	}

	return "", fmt.Errorf("the output of %s doesn't match %s:\n%s", p.cmd.Path, pattern, &p.log)
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// stop kills the program and its child processes, and waits until it has exited.
func (p *process) stop() {
	killAll(p.cmd.Process)

	select {
	case <-p.exited:
	case <-time.After(patience): // another process keeps the output open
	}
}
