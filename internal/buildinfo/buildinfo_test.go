package buildinfo_test

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/peald/peald/internal/buildinfo"
)

func TestLine(t *testing.T) {
	for want, info := range map[string]debug.BuildInfo{
		"v1.2.3 (revision 0123abc, 2026-11-24T09:00:00Z, go1.26.8, linux/arm64)": {
			GoVersion: "go1.26.8",
			Main:      debug.Module{Version: "v1.2.3"},
			Settings: []debug.BuildSetting{
				{Key: "GOARCH", Value: "arm64"},
				{Key: "GOOS", Value: "linux"},
				{Key: "vcs.revision", Value: "0123abc"},
				{Key: "vcs.time", Value: "2026-11-24T09:00:00Z"},
			},
		},

		// As built by go install.
		"v1.2.3 (go1.26.8)":  {GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}},
		"unknown (go1.26.8)": {GoVersion: "go1.26.8"},
	} {
		if got := buildinfo.LineOf(&info); got != want {
			t.Errorf("line is %q, want %q", got, want)
		}
	}
}

func TestRevision(t *testing.T) {
	for want, settings := range map[string][]debug.BuildSetting{
		"0123abc":       {{Key: "vcs.revision", Value: "0123abc"}, {Key: "vcs.modified", Value: "false"}},
		"0123abc+dirty": {{Key: "vcs.revision", Value: "0123abc"}, {Key: "vcs.modified", Value: "true"}},
		"unknown":       {{Key: "GOOS", Value: "linux"}},
	} {
		if got := buildinfo.RevisionOf(&debug.BuildInfo{Settings: settings}); got != want {
			t.Errorf("revision is %q, want %q", got, want)
		}
	}
}

func TestLineOfThisProgram(t *testing.T) {
	line := buildinfo.Line()
	if !strings.HasPrefix(line, buildinfo.Version()+" (") || !strings.Contains(line, runtime.Version()) || strings.Contains(line, "\n") {
		t.Errorf("line is %q", line)
	}
}
