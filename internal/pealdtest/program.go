package pealdtest

import (
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of the first of names that is installed. Where none
// is, the test is skipped, but with CI set it fails: a test that CI never runs
// shows nothing.
func Program(t testing.TB, names ...string) string {
	t.Helper()

	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			return path
		}
	}

	Missing(t, "none of the programs %q is installed", names)

	return ""
}

// Missing ends a test that lacks something of this machine: as skipped, or with
// CI set as failed.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()

	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}

	t.Skipf(format, args...)
}
