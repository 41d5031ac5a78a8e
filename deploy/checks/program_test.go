package checks_test

import (
	"os"
	"os/exec"
	"testing"
)

// program returns the path of an installed program. If it is missing, the test
// is skipped, or fails if CI is true.
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
