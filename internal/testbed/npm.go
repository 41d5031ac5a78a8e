package testbed

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// NodeModules returns the path of a node_modules directory with the npm packages
// from the lock file in dir. They are installed once per version of the lock file,
// into the user's cache. If npm is missing or fails, the test is skipped, or fails
// if CI is set.
func NodeModules(tb testing.TB, dir string) string {
	tb.Helper()

	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		tb.Fatal(err)
	}

	sum := sha256.Sum256(lock)
	packages := filepath.Join(cacheDir(), "npm-"+hex.EncodeToString(sum[:8]))

	if _, err := os.Stat(packages); err != nil {
		installPackages(tb, dir, packages)
	}

	return filepath.Join(packages, "node_modules")
}

// cacheDir returns the directory for files that tests keep for later runs.
func cacheDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}

	return filepath.Join(cache, "peald-tests")
}

// installPackages installs the packages in a new directory and renames it to packages,
// so that packages is never incomplete.
func installPackages(tb testing.TB, dir, packages string) {
	tb.Helper()

	npm := Program(tb, "npm")

	if err := os.MkdirAll(filepath.Dir(packages), 0o700); err != nil {
		tb.Fatal(err)
	}

	//nolint:usetesting // a directory can't be renamed to another file system
	fresh, err := os.MkdirTemp(filepath.Dir(packages), "new-")
	if err != nil {
		tb.Fatal(err)
	}

	defer func() { _ = os.RemoveAll(fresh) }()

	for _, name := range []string{"package.json", "package-lock.json"} {
		CopyFile(tb, filepath.Join(dir, name), fresh)
	}

	command := exec.CommandContext(tb.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	command.Dir = fresh

	if out, err := command.CombinedOutput(); err != nil {
		Missingf(tb, "install the npm packages of %s: %v\n%s", dir, err, out)
	}

	if err := os.Rename(fresh, packages); err != nil {
		// Another test may have installed the same packages first.
		if _, missing := os.Stat(packages); missing != nil {
			tb.Fatal(err)
		}
	}
}

// JavaScriptClient returns a directory with a copy of the JavaScript client's source and
// the npm packages that it needs. The go command notices changes to the files, since the
// test reads them.
func JavaScriptClient(tb testing.TB) string {
	tb.Helper()

	source, dir := filepath.Join(moduleDir(tb), "clients", "js"), tb.TempDir()

	for _, pattern := range []string{"*.json", "src/*", "test/*", "scripts/*"} {
		files, err := filepath.Glob(filepath.Join(source, pattern))
		if err != nil || len(files) == 0 {
			tb.Fatalf("no files match %s: %v", pattern, err)
		}

		to := filepath.Join(dir, filepath.Dir(pattern))
		if err := os.MkdirAll(to, 0o700); err != nil {
			tb.Fatal(err)
		}

		for _, file := range files {
			CopyFile(tb, file, to)
		}
	}

	if err := os.Symlink(NodeModules(tb, source), filepath.Join(dir, "node_modules")); err != nil {
		tb.Fatal(err)
	}

	return dir
}

// CopyFile copies the file at path into the directory dir.
func CopyFile(tb testing.TB, path, dir string) {
	tb.Helper()

	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o600); err != nil {
		tb.Fatal(err)
	}
}
