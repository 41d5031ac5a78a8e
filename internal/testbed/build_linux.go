package testbed

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// BuildDaemon builds peald with the test's BuildFlags and returns its path.
//
// The program is kept in the user's cache, and the go command links it again only
// after a change. The tests of several packages therefore share one build.
func BuildDaemon(tb testing.TB) string {
	tb.Helper()

	module := moduleDir(tb)
	flags := BuildFlags()
	name := strings.Join(append([]string{"peald"}, flags...), "") // such as peald-race

	sum := sha256.Sum256([]byte(module))
	dir := filepath.Join(cacheDir(), "build-"+hex.EncodeToString(sum[:8]))

	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}

	unlock := lock(tb, filepath.Join(dir, name+".lock"))
	defer unlock()

	path := filepath.Join(dir, name)
	args := slices.Concat([]string{"-C", module, "build", "-ldflags=-s -w", "-o", path}, flags, []string{"./cmd/peald"})

	if out, err := exec.CommandContext(tb.Context(), Program(tb, "go"), args...).CombinedOutput(); err != nil {
		tb.Fatalf("build peald: %v\n%s", err, out)
	}

	return path
}

// lock locks the file at path, even against other processes, until the returned
// function is called.
func lock(tb testing.TB, path string) (unlock func()) {
	tb.Helper()

	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatal(err)
	}

	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
	}

	if err != nil {
		_ = file.Close()

		tb.Fatal(err)
	}

	return func() { _ = file.Close() }
}
