package browsertest

import (
	"os"
	"os/exec"
	"syscall"
)

// bindLife makes a command end with its parent, and the leader of a process
// group.
func bindLife(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// killAll kills a process and its group.
func killAll(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
