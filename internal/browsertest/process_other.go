//go:build !linux

package browsertest

import (
	"os"
	"os/exec"
)

func bindLife(*exec.Cmd) {}

func killAll(p *os.Process) { _ = p.Kill() }
