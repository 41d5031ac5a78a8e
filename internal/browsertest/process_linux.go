package browsertest

import (
	"os"
	"os/exec"
	"syscall"
)

// bindLife makes the kernel kill a command when its parent thread exits, and makes the
// command the leader of a process group.
func bindLife(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// killAll kills a process and its group.
func killAll(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
