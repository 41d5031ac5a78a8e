package main

import (
	"context"
	"debug/buildinfo"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine describes the machine and the versions that were measured.
type Machine struct {
	CPU      string
	Cores    int
	Memory   uint64 // bytes
	Kernel   string
	Go       string
	Versions []Version // of the targets
	Measured time.Time
	Busy     float64 // load average before anything was measured
}

// loadAverage returns the system's load average over the last minute.
func loadAverage() float64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	const fixedPoint = 1 << 16
	return float64(info.Loads[0]) / fixedPoint
}

// Version is the version of a target.
type Version struct{ Target, Version string }

func describeMachine(ctx context.Context, root string, targets []target) Machine {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), Go: runtime.Version(), Measured: time.Now().UTC()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}

	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = info.Totalram * uint64(info.Unit)
	}

	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}

	for _, t := range targets {
		version := t.version
		if t.name == pealdName {
			version = output(ctx, "git", "-C", root, "describe", "--tags", "--always", "--dirty")
		}

		if version != "" {
			m.Versions = append(m.Versions, Version{t.name, version})
		}
	}

	return m
}

// moduleVersion returns the version of a module in a program, or "" if unknown.
func moduleVersion(program, module string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return ""
}
