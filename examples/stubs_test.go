package examples_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/peald/peald/internal/testbed"
)

// TestGeneratedStubs runs the command in docs/control.md that generates stubs
// into a package of another module, and compiles them.
func TestGeneratedStubs(t *testing.T) {
	t.Parallel()

	doc, err := os.ReadFile(filepath.Join("..", "docs", "control.md"))
	if err != nil {
		t.Fatal(err)
	}

	block := regexp.MustCompile("(?s)```sh\n(protoc .*?)```").FindSubmatch(doc)
	if block == nil {
		t.Fatal("docs/control.md has no code block that begins with protoc")
	}

	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}

	module := t.TempDir()
	if err := os.Symlink(filepath.Join(root, "proto"), filepath.Join(module, "proto")); err != nil {
		t.Fatal(err)
	}

	generate := exec.CommandContext(t.Context(), "sh", "-ec", string(block[1]))
	generate.Dir = module
	generate.Env = append(os.Environ(), "PATH="+protoc(t)+":"+os.Getenv("PATH"))

	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", block[1], err, out)
	}

	// An overlay places the stubs in peald's module, which provides their
	// imports.
	replaced := make(map[string]string)
	for _, name := range []string{"control.pb.go", "control_grpc.pb.go"} {
		replaced[filepath.Join(root, "pealv1", name)] = filepath.Join(module, "pealv1", name)
	}

	text, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}

	overlay := filepath.Join(module, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}

	do(t, root, "go", slices.Concat([]string{"build", "-overlay", overlay}, testbed.BuildFlags(), []string{"./pealv1"})...)
}

// protoc returns a directory that contains protoc's Go plugins, and protoc
// unless it is in PATH.
func protoc(t *testing.T) string {
	t.Helper()

	folder := t.TempDir()
	do(t, "..", "go", slices.Concat([]string{"build", "-modfile=tools/go.mod", "-ldflags=-w", "-o", folder}, testbed.BuildFlags(),
		[]string{"google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"})...)

	if _, err := exec.LookPath("protoc"); err == nil {
		return folder
	}

	// grpcio-tools contains protoc.
	python := testbed.Program(t, "/usr/bin/python3", "python3")
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import grpc_tools.protoc").CombinedOutput(); err != nil {
		testbed.Missingf(t, "protoc is not installed, and %s lacks grpcio-tools: %v\n%s", python, err, out)
	}

	// Debian's version is old and maps the well-known types to other Go packages.
	script := "#!/bin/sh\nexec " + python + " -m grpc_tools.protoc"
	for name, path := range map[string]string{
		"descriptor": "types/descriptorpb",
		"duration":   "types/known/durationpb",
		"timestamp":  "types/known/timestamppb",
	} {
		script += " --go_opt=Mgoogle/protobuf/" + name + ".proto=google.golang.org/protobuf/" + path
	}

	script += " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(folder, "protoc"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}

	return folder
}
