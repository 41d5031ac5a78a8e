package pealdtest

import (
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of the first of names that is installed. If none is, the
// test is skipped. It fails if CI is set, because a test that CI never runs is
// useless.
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

// Missingf skips a test because the machine lacks something. If CI is set, it fails
// the test instead.
func Missingf(tb testing.TB, format string, args ...any) {
	tb.Helper()

	if os.Getenv("CI") == "true" {
		tb.Fatalf(format, args...)
	}

	tb.Skipf(format, args...)
}
