// Command glossary checks the words of the project's texts: what people read
// uses one term for one thing, and the terms of the field.
//
//	go -C tools run ./glossary [path...]
//
// It reads the files that git knows under the paths, by default all of the
// project: comments and strings of Go files, and every line of documents,
// protos, configuration and pages. Each finding is a line with the file, the
// phrase and what to write instead. The exit status is 1 if there are any.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

// run writes the findings under paths, which are relative to the project's
// root, and returns how many there are.
func run(w io.Writer, paths []string) (found int, err error) {
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return 0, fmt.Errorf("finding the project: %w", err)
	}

	dir := strings.TrimSpace(string(root))
	list := exec.Command("git", append([]string{"ls-files", "--"}, paths...)...) //nolint:gosec // The paths are the developer's.
	list.Dir = dir

	files, err := list.Output()
	if err != nil {
		return 0, fmt.Errorf("listing files: %w", err)
	}

	for name := range strings.Lines(string(files)) {
		name = strings.TrimSpace(name)
		if !isChecked(name) {
			continue
		}

		text, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // git lists it.
		if err != nil {
			return found, err
		}

		lines, err := textOf(name, text)
		if err != nil {
			return found, err
		}

		for _, l := range lines {
			for _, f := range check(l.text) {
				found++

				fmt.Fprintf(w, "%s:%d: %q: write %s\n", name, l.number, f.phrase, f.instead)
			}
		}
	}

	return found, nil
}

// isChecked reports whether a file's text is written for people by the
// project.
func isChecked(name string) bool {
	for _, dir := range []string{"gen/", "tools/glossary/"} {
		if strings.HasPrefix(name, dir) {
			return false
		}
	}

	for dir := range strings.SplitSeq(filepath.ToSlash(filepath.Dir(name)), "/") {
		if dir == "testdata" || dir == "vendor" || dir == "node_modules" {
			return false
		}
	}

	return slices.Contains([]string{
		".go", ".md", ".proto", ".yaml", ".yml", ".toml", ".html", ".css", ".js", ".ts", ".sh",
		".service", ".socket", ".conf", ".cfg", ".tmpl", ".json", ".py",
	}, filepath.Ext(name)) && filepath.Base(name) != "package-lock.json"
}

// line is a line of text that people read.
type line struct {
	number int
	text   string
}

// textOf returns the lines of a file that people read.
func textOf(name string, text []byte) ([]line, error) {
	if filepath.Ext(name) == ".go" {
		return textOfGo(name, text)
	}

	var lines []line

	number := 0
	for l := range strings.Lines(string(text)) {
		number++

		lines = append(lines, line{number, strings.TrimRight(l, "\n")})
	}

	return lines, nil
}

// textOfGo returns the comments and strings of a Go file. Imports and the tags
// of structs are code.
func textOfGo(name string, text []byte) ([]line, error) {
	set := token.NewFileSet()

	file, err := parser.ParseFile(set, name, text, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("reading Go: %w", err)
	}

	var lines []line

	add := func(at token.Pos, text string) {
		number := set.Position(at).Line

		for l := range strings.Lines(text) {
			lines = append(lines, line{number, strings.TrimRight(l, "\n")})
			number++
		}
	}

	for _, group := range file.Comments {
		for _, comment := range group.List {
			add(comment.Pos(), comment.Text)
		}
	}

	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			n.Tag = nil
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				add(n.Pos(), n.Value)
			}
		}

		return true
	})

	return lines, nil
}
