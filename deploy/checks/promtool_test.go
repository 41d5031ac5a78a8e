package checks_test

import (
	"os/exec"
	"testing"
)

// TestAlertsByPromtool runs the tests of alerts as an operator does, whose
// promtool compares all annotations.
func TestAlertsByPromtool(t *testing.T) {
	t.Parallel()

	cmd := exec.CommandContext(t.Context(), program(t, "promtool"), "test", "rules", "alerts_test.yml")
	cmd.Dir = "../prometheus"

	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
