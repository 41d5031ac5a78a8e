package checks_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxExposure is the highest accepted exposure level of systemd-analyze, in
// tenths: from 0 to 100, where 40 is medium. A network daemon's minimum is 11.
const maxExposure = "15"

func TestUnitsAreValid(t *testing.T) {
	for _, unit := range units(t) {
		t.Run(filepath.Base(unit), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), program(t, "systemd-analyze"), "verify", "--man=no", runnableUnit(t, unit))
			// The exit status covers only errors; unknown settings are warnings.
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
		"security", "--offline=yes", "--no-pager", "--threshold="+maxExposure, unit)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// TestServiceHasWatchdog checks that systemd restarts a daemon that hangs.
func TestServiceHasWatchdog(t *testing.T) {
	unit := read(t, "../systemd/peald.service")
	for _, line := range []string{"Type=notify", "WatchdogSec=30s", "Restart=on-failure"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
}

// units returns the paths of all unit files.
func units(t *testing.T) []string {
	t.Helper()

	found, err := filepath.Glob("../systemd/peald.*")
	if err != nil || len(found) == 0 {
		t.Fatalf("no units: %v", err)
	}

	return found
}

// runnableUnit copies the units and returns the path of the given unit's copy. In
// the copies, an existing program replaces the daemon, because systemd rejects a
// unit whose program is missing.
func runnableUnit(t *testing.T, unit string) string {
	t.Helper()

	here, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	// A socket unit's service must be in the same directory.
	folder := t.TempDir()

	for _, each := range units(t) {
		text := strings.ReplaceAll(read(t, each), "=/usr/bin/peald ", "="+here+" ")
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(each)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return filepath.Join(folder, filepath.Base(unit))
}
