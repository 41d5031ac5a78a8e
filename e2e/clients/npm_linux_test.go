package clients_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/peald/peald/internal/pealdtest"
)

// installed returns a folder with the drivers of testdata/node and, beside them,
// the packages that they need. npm installs those once for each state of the
// lock file, into the user's cache.
func installed(t *testing.T) string {
	t.Helper()

	lock, err := os.ReadFile(filepath.Join("testdata", "node", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}

	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}

	sum := sha256.Sum256(lock)
	packages := filepath.Join(cache, "peald-tests", "clients-"+hex.EncodeToString(sum[:8]))

	if _, err := os.Stat(packages); err != nil {
		install(t, packages)
	}

	dir := t.TempDir()

	drivers, err := filepath.Glob(filepath.Join("testdata", "node", "*.mjs"))
	if err != nil {
		t.Fatal(err)
	}

	for _, driver := range drivers {
		text, err := os.ReadFile(driver)
		if err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(filepath.Join(dir, filepath.Base(driver)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Symlink(filepath.Join(packages, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}

	return dir
}

// install installs the packages beside their place and renames the folder, so
// that it is whole once it is there.
func install(t *testing.T, packages string) {
	t.Helper()

	npm := pealdtest.Program(t, "npm")

	if err := os.MkdirAll(filepath.Dir(packages), 0o700); err != nil {
		t.Fatal(err)
	}

	//nolint:usetesting // A folder can't be renamed to another file system.
	dir, err := os.MkdirTemp(filepath.Dir(packages), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)

	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", "node", name))
		if err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	command := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	command.Dir = dir

	if out, err := command.CombinedOutput(); err != nil {
		pealdtest.Missingf(t, "npm cannot install the clients: %v\n%s", err, out)
	}

	// Another run of the test may have been faster.
	if err := os.Rename(dir, packages); err != nil {
		if _, missing := os.Stat(packages); missing != nil {
			t.Fatal(err)
		}
	}
}
