package openapi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// TestTypeScript generates types from the daemon's document and compiles a
// program that uses them.
func TestTypeScript(t *testing.T) {
	t.Parallel()

	node := testbed.Program(t, "node")
	source, dir := filepath.Join("testdata", "typescript"), t.TempDir()
	modules := testbed.NodeModules(t, source)

	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{"package.json", "tsconfig.json", "program.ts"} {
		testbed.CopyFile(t, filepath.Join(source, name), dir)
	}

	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), served(t, pealdtest.Start(t)), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, script := range [][]string{
		{"openapi-typescript/bin/cli.js", "openapi.json", "--output", "peald.d.ts"},
		{"typescript/bin/tsc", "--project", "."},
	} {
		command := exec.CommandContext(t.Context(), node, append([]string{filepath.Join(modules, script[0])}, script[1:]...)...)
		command.Dir = dir

		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script[0], err, out)
		}
	}
}
