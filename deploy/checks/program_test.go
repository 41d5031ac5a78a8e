package checks_test

import (
	"os"
	"os/exec"
	"testing"
)

// program is the path of a program that the test needs. Where it is missing the
// test is skipped, but with CI set it fails.
func program(t *testing.T, name string) string {
	t.Helper()

	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}

	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}

	t.Skipf("%s is not installed", name)

	return ""
}
