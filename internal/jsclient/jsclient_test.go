package jsclient_test

import (
	"bytes"
	"compress/gzip"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/peald/peald/internal/jsclient"
	"github.com/peald/peald/internal/testbed"
)

// maxCompressed is the maximum size of the compressed module, in bytes.
const maxCompressed = 12 << 10

// run runs a script of the client and returns its output.
func run(t *testing.T, script string) []byte {
	t.Helper()

	command := exec.CommandContext(t.Context(), testbed.Program(t, "node"), filepath.Join("scripts", script))
	command.Dir = testbed.JavaScriptClient(t)

	var stderr bytes.Buffer
	command.Stderr = &stderr

	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", script, err, out, &stderr)
	}

	return out
}

// TestClient runs the client's own tests in Node.
func TestClient(t *testing.T) {
	t.Parallel()
	run(t, "test.mjs")
}

// TestModuleIsUpToDate compares the module with its source.
func TestModuleIsUpToDate(t *testing.T) {
	t.Parallel()

	if !bytes.Equal(run(t, "bundle.mjs"), jsclient.Module()) {
		t.Error("peald.js is stale: run go generate ./internal/jsclient, and commit it")
	}
}

func TestModuleIsSmall(t *testing.T) {
	t.Parallel()

	var compressed bytes.Buffer

	w := gzip.NewWriter(&compressed)
	if _, err := w.Write(jsclient.Module()); err != nil {
		t.Fatal(err)
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	if compressed.Len() > maxCompressed {
		t.Errorf("the compressed module has %d bytes, want at most %d", compressed.Len(), maxCompressed)
	}
}
