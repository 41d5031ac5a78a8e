package checks_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mostExposed is systemd's own figure for what a unit leaves open, in tenths:
// from 0 to 100, where it calls 40 medium. A daemon with a network has 11.
const mostExposed = "15"

func TestUnitsAreUnderstood(t *testing.T) {
	for _, unit := range units(t) {
		t.Run(filepath.Base(unit), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), program(t, "systemd-analyze"), "verify", "--man=no", runnable(t, unit))
			// What is not understood is a warning, and the status tells of errors alone.
			if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
		})
	}
}

func TestServiceIsHardened(t *testing.T) {
	unit, err := filepath.Abs("../systemd/peald.service")
	if err != nil {
		t.Fatal(err)
	}

	cmd := exec.CommandContext(t.Context(), program(t, "systemd-analyze"),
		"security", "--offline=yes", "--no-pager", "--threshold="+mostExposed, unit)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// TestServiceIsWatched: systemd restarts a daemon that has stopped running.
func TestServiceIsWatched(t *testing.T) {
	unit := read(t, "../systemd/peald.service")
	for _, line := range []string{"Type=notify", "WatchdogSec=30s", "Restart=on-failure"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
}

// units are the paths of all unit files.
func units(t *testing.T) []string {
	t.Helper()

	found, err := filepath.Glob("../systemd/peald.*")
	if err != nil || len(found) == 0 {
		t.Fatalf("no units: %v", err)
	}

	return found
}

// runnable copies the units and changes the path of the daemon to that of a
// program that is here: systemd refuses a unit whose program is missing. It
// returns where the copy of one of them is.
func runnable(t *testing.T, unit string) string {
	t.Helper()

	here, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	// A socket's service is looked for beside it.
	folder := t.TempDir()

	for _, each := range units(t) {
		text := strings.ReplaceAll(read(t, each), "=/usr/bin/peald ", "="+here+" ")
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(each)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return filepath.Join(folder, filepath.Base(unit))
}
