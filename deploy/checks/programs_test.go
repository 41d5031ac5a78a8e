package checks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binaries is the directory of the programs that built builds, once for all
// tests.
//
//nolint:gochecknoglobals // It is filled once, by the first test that needs it.
var binaries struct {
	folder string
	built  bool
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "peald-checks-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(folder)

		binaries.folder = folder

		return m.Run()
	}())
}

// built returns a directory that contains peald and pealctl.
func built(t *testing.T) string {
	t.Helper()

	if !binaries.built {
		run(t, "go", append(goArgs(t, "build"), "-ldflags=-s -w", "-o", binaries.folder, "./cmd/peald", "./cmd/pealctl")...)
		binaries.built = true
	}

	return binaries.folder
}

// goArgs returns the arguments for a go command in the main module. They enable
// the race detector where it is available, so that the packages compiled for the
// main module's tests are reused.
func goArgs(t *testing.T, command string) []string {
	t.Helper()

	args := []string{"-C", "../..", command}
	if exec.CommandContext(t.Context(), "go", "list", "-race", "-f", "", "runtime").Run() == nil {
		args = append(args, "-race")
	}

	return args
}

// effectiveConfig runs "peald config" with environment variables and, unless file
// is empty, a configuration file with that content. It returns the output. It
// fails whenever the daemon would refuse to start.
func effectiveConfig(t *testing.T, programs string, env []string, file string) (string, error) {
	t.Helper()

	args := []string{"config"}
	if file != "" {
		args = append(args, "--config", write(t, "peald.yaml", file))
	}

	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "peald"), args...)
	cmd.Dir, cmd.Env = t.TempDir(), env
	out, err := cmd.CombinedOutput()

	return string(out), err
}

// checkUsage fails the test if pealctl rejects its arguments.
func checkUsage(t *testing.T, programs string, args []string) {
	t.Helper()

	const statusUsage = 2

	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "pealctl"), args...)
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() == statusUsage {
		t.Errorf("pealctl %q: %s", args, out)
	}
}
