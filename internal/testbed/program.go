package testbed

import (
	"os"
	"os/exec"
	"path/filepath"
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

// moduleDir returns the root directory of the module that contains the test's
// working directory.
func moduleDir(tb testing.TB) string {
	tb.Helper()

	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}

	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}

		if dir == filepath.Dir(dir) {
			tb.Fatal("the test doesn't run in a module")
		}
	}
}
