// Package examples_test runs the examples against a daemon.
package examples_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tmaxmax/go-sse"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

const controlToken = "for-the-examples"

func TestCurl(t *testing.T) {
	t.Parallel()
	testbed.Program(t, "curl")
	expect(t, "curl", `"userId": ?"alice"`, `"code": ?16`, filepath.Join("curl", "peald.sh"), "alice")
}

func TestGo(t *testing.T) {
	t.Parallel()

	program := filepath.Join(t.TempDir(), "example")
	build := slices.Concat([]string{"build", "-ldflags=-w", "-o", program}, testbed.BuildFlags(), []string{"./go"})
	do(t, ".", testbed.Program(t, "go"), build...)
	expect(t, "Go", "Connected: alice with 1 streams", "code = Unauthenticated", program, "alice")
}

func TestNode(t *testing.T) {
	t.Parallel()

	node, npm := testbed.Program(t, "node"), testbed.Program(t, "npm")

	// Use a copy, so that npm writes nothing to the repository.
	root := t.TempDir()
	folder := filepath.Join(root, "examples", "node")

	for to, from := range map[string]string{filepath.Join(root, "proto"): "../proto", folder: "node"} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}

	install := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = folder

	if out, err := install.CombinedOutput(); err != nil {
		testbed.Missingf(t, "npm can't install the example's dependencies: %v\n%s", err, out)
	}

	expect(t, "Node", "Connected: alice with 1 streams", "UNAUTHENTICATED: ", node, filepath.Join(folder, "peald.js"), "alice")
}

func TestPython(t *testing.T) {
	t.Parallel()

	// Use the system's Python, for which Debian's packages are installed.
	python := testbed.Program(t, "/usr/bin/python3", "python3")

	imports := exec.CommandContext(t.Context(), python, "-c", "import google.protobuf, grpc, grpc_tools.protoc")
	if out, err := imports.CombinedOutput(); err != nil {
		testbed.Missingf(t, "%s lacks grpcio or grpcio-tools: %v\n%s", python, err, out)
	}

	expect(t, "Python", "Connected: alice with 1 streams", "UNAUTHENTICATED: ", python, filepath.Join("python", "peald.py"), "alice")
}

// expect runs an example while alice has an open stream. The example's events must
// arrive, and it must print a token and report that alice is connected. With a
// wrong control token, it must fail and print the reason.
func expect(t *testing.T, language, connected, rejected string, command ...string) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Control.Tokens = []daemon.Token{{Name: "examples", Token: controlToken}}
	})
	stream := open(t, d.Events(t, "alice"))

	out, err := run(t, d, controlToken, command...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", language, err, out)
	}

	if !regexp.MustCompile(connected).MatchString(out) {
		t.Errorf("%s doesn't print that alice is connected:\n%s", language, out)
	}

	want := []sse.Event{
		{Type: "broadcast", Data: "Hello, everyone,\nfrom " + language + " ☀"},
		{Type: "greeting", Data: "Hello from " + language + ", just for you"},
	}
	if got := receive(t, stream, len(want)); got[0] != want[0] || got[1] != want[1] {
		t.Errorf("alice's stream received %q, want %q", got, want)
	}

	open(t, d.Events(t, "")+"?access_token="+regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`).FindString(out))

	if out, err := run(t, d, "a-wrong-one", command...); err == nil || !regexp.MustCompile(rejected).MatchString(out) {
		t.Errorf("%s with a wrong control token: error %v, want a failure that prints %q; output:\n%s", language, err, rejected, out)
	}
}

// run runs an example and returns its output.
func run(t *testing.T, d *pealdtest.Daemon, token string, command ...string) (string, error) {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PEALCTL_ADDR="+d.GRPC, "PEALCTL_REST_URL="+d.URL(""), "PEALCTL_TOKEN="+token)

	// As on a system whose locale isn't UTF-8.
	cmd.Env = append(cmd.Env, "LC_ALL=C")

	out, err := cmd.CombinedOutput()

	return string(out), err
}

func do(t *testing.T, dir, command string, args ...string) {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Dir = dir

	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// open opens a stream that is closed when the test ends.
func open(t *testing.T, url string) *http.Response {
	t.Helper()

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = response.Body.Close() })

	if response.StatusCode != http.StatusOK {
		var reason bytes.Buffer

		_, _ = reason.ReadFrom(response.Body)
		t.Fatalf("opening a stream: %s: %s", response.Status, &reason)
	}

	return response
}

// receive returns the next n events of a stream, without their ids.
func receive(t *testing.T, stream *http.Response, n int) []sse.Event {
	t.Helper()

	var got []sse.Event

	for event, err := range sse.Read(stream.Body, nil) {
		if err != nil {
			t.Fatalf("after %d events: %v", len(got), err)
		}

		if event.Data == "" { // a position mark
			continue
		}

		event.LastEventID = ""
		if got = append(got, event); len(got) == n {
			return got
		}
	}

	t.Fatalf("the stream ended after %d of %d events", len(got), n)

	return nil
}
