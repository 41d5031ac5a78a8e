package checks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binaries is a folder for what built builds, once for all tests.
//
//nolint:gochecknoglobals // It is filled once, by whichever test comes first.
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

// built is a folder with peald and pealctl.
func built(t *testing.T) string {
	t.Helper()

	if !binaries.built {
		run(t, "go", append(goes(t, "build"), "-ldflags=-s -w", "-o", binaries.folder, "./cmd/peald", "./cmd/pealctl")...)
		binaries.built = true
	}

	return binaries.folder
}

// goes is a command line of go in the module around this one, with the race
// detector where there is one: then nothing is compiled that the tests there
// don't need too.
func goes(t *testing.T, command string) []string {
	t.Helper()

	args := []string{"-C", "../..", command}
	if exec.CommandContext(t.Context(), "go", "list", "-race", "-f", "", "runtime").Run() == nil {
		args = append(args, "-race")
	}

	return args
}

// effective runs "peald config" with variables and, where it is not empty, a
// configuration file. Its error is what the daemon would refuse to start for.
func effective(t *testing.T, programs string, env []string, file string) (string, error) {
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

// understood fails if pealctl doesn't know a command line.
func understood(t *testing.T, programs string, args []string) {
	t.Helper()

	const statusUsage = 2

	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "pealctl"), args...)
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() == statusUsage {
		t.Errorf("pealctl %q: %s", args, out)
	}
}
