package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGoExample checks that the README shows lines from the example that it links
// to. The tests of the examples run that example.
func TestGoExample(t *testing.T) {
	t.Parallel()

	_, block, found := strings.Cut(read(t, "README.md"), "```go\n")
	block, _, _ = strings.Cut(block, "```")

	if !found {
		t.Fatal("README.md has no block in Go")
	}

	example := read(t, "examples/go/main.go")

	for line := range strings.Lines(block) {
		if line = strings.TrimSpace(line); !strings.Contains(example, line) {
			t.Errorf("README.md shows %q, which isn't in examples/go/main.go", line)
		}
	}
}

// TestGoClient checks that docs/clients.md shows a function of the client's tests.
func TestGoClient(t *testing.T) {
	t.Parallel()

	_, block, found := strings.Cut(read(t, "docs/clients.md"), "```go\nfunc listen(")
	block, _, _ = strings.Cut(block, "```")

	if !found || !strings.Contains(read(t, "client/listen_test.go"), "\nfunc listen("+block) {
		t.Error("docs/clients.md doesn't show the function listen in client/listen_test.go")
	}
}

// TestFrameworks checks that docs/javascript.md shows the hook for React and the
// composable for Vue as they are in the examples, and how their pages use them.
func TestFrameworks(t *testing.T) {
	t.Parallel()

	page := read(t, "docs/javascript.md")

	for heading, files := range map[string][2]string{
		"With React": {"examples/react/src/usePeald.ts", "examples/react/src/main.tsx"},
		"With Vue":   {"examples/vue/src/usePeald.ts", "examples/vue/src/main.ts"},
	} {
		_, section, _ := strings.Cut(page, "\n## "+heading+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		blocks := regexp.MustCompile("(?ms)^```tsx?\n(.*?)^```$").FindAllStringSubmatch(section, -1)

		if len(blocks) != len(files) || blocks[0][1] != read(t, files[0]) || !strings.Contains(read(t, files[1]), blocks[1][1]) {
			t.Errorf("the section %q of docs/javascript.md doesn't show %s, and a part of %s", heading, files[0], files[1])
		}
	}
}

// TestLogMessages checks that the daemon can log the messages that
// docs/troubleshooting.md explains.
func TestLogMessages(t *testing.T) {
	t.Parallel()

	_, table, found := strings.Cut(read(t, "docs/troubleshooting.md"), "\n## Log messages\n")
	messages := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1)

	if !found || len(messages) == 0 {
		t.Fatal("docs/troubleshooting.md explains no log messages")
	}

	code := sources(t)

	for _, m := range messages {
		if !strings.Contains(code, m[1]) {
			t.Errorf("docs/troubleshooting.md explains %q, which no code logs", m[1])
		}
	}
}

// TestPaths checks that the files named in docs/architecture.md exist.
func TestPaths(t *testing.T) {
	t.Parallel()

	paths := regexp.MustCompile("`([a-z0-9_.]+/[a-z0-9_./]+)`").FindAllStringSubmatch(read(t, "docs/architecture.md"), -1)
	if len(paths) == 0 {
		t.Fatal("docs/architecture.md names no files")
	}

	for _, m := range paths {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("docs/architecture.md: %v", err)
		}
	}
}

// sources returns the Go code of the daemon, without its tests.
func sources(t *testing.T) string {
	t.Helper()

	var text strings.Builder

	for _, dir := range []string{"cmd/peald", "control", "daemon", "internal", "ssehttp"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}

			code, err := os.ReadFile(path)
			text.Write(code)

			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	return text.String()
}
