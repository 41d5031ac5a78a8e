package pealdtest

import (
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of the first of names that is installed. Where none
// is, the test is skipped, but with CI set it fails: a test that CI never runs
// shows nothing.
func Program(tb testing.TB, names ...string) string {
	tb.Helper()

	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			return path
		}
	}

	Missingf(tb, "none of the programs %q is installed", names)

	return ""
}

// Missingf ends a test that lacks something of this machine: as skipped, or with
// CI set as failed.
func Missingf(tb testing.TB, format string, args ...any) {
	tb.Helper()

	if os.Getenv("CI") == "true" {
		tb.Fatalf(format, args...)
	}

	tb.Skipf(format, args...)
}
