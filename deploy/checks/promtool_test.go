package checks_test

import (
	"os/exec"
	"testing"
)

// TestAlertsWithPromtool runs the alert tests with the operators' tool, which
// also compares all annotations.
func TestAlertsWithPromtool(t *testing.T) {
	t.Parallel()

	cmd := exec.CommandContext(t.Context(), program(t, "promtool"), "test", "rules", "alerts_test.yml")
	cmd.Dir = "../prometheus"

	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
