// Command glossary checks the wording of the project's texts: they must use one
// term for each thing, and the terms that are common in the field.
//
//	go -C tools run ./glossary [path...]
//
// It reads the files that git tracks under the given paths, which are relative to
// the project's root, or all files: the comments and strings of Go files, and every
// line of documents, protos, configuration and pages. Each finding is printed as a
// line with the file, the phrase and its replacement. The exit status is 1 if there
// are findings, and 2 after an error.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/peald/peald/tools/glossary/phrases"
)

func main() {
	found, err := run(os.Stdout, os.Args[1:])

	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "glossary:", err)
		os.Exit(2)
	case found > 0:
		fmt.Fprintf(os.Stderr, "glossary: %d phrases to replace\n", found)
		os.Exit(1)
	}
}

// run writes the findings in the files under paths to w and returns their number.
func run(w io.Writer, paths []string) (found int, err error) {
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return 0, fmt.Errorf("find the project's root: %w", err)
	}

	dir := strings.TrimSpace(string(root))
	list := exec.Command("git", append([]string{"ls-files", "--"}, paths...)...) //nolint:gosec // The developer's own paths.
	list.Dir = dir

	files, err := list.Output()
	if err != nil {
		return 0, fmt.Errorf("list files: %w", err)
	}

	checker := phrases.New()

	for name := range strings.Lines(string(files)) {
		name = strings.TrimSpace(name)
		if !phrases.IsText(name) {
			continue
		}

		text, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // A tracked file.
		if err != nil {
			return found, err
		}

		findings, err := checker.Check(name, text)
		if err != nil {
			return found, err
		}

		for _, f := range findings {
			fmt.Fprintf(w, "%s:%d: %q: write %s\n", name, f.Line, f.Phrase, f.Instead)
		}

		found += len(findings)
	}

	return found, nil
}
