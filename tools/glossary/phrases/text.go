package phrases

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
)

// line is a line of text that people read.
type line struct {
	number int // in the file, counting from 1
	text   string
}

// textOf returns the lines of a file that people read: all of them or, in a Go
// file, those of comments and strings.
func textOf(name string, text []byte) ([]line, error) {
	if filepath.Ext(name) == ".go" {
		return textOfGo(name, text)
	}

	return appendLines(nil, 1, string(text)), nil
}

// textOfGo returns the comments and strings of a Go file. Import paths and struct
// tags are code.
func textOfGo(name string, text []byte) ([]line, error) {
	set := token.NewFileSet()

	file, err := parser.ParseFile(set, name, text, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("parse Go: %w", err)
	}

	var lines []line

	for _, group := range file.Comments {
		for _, comment := range group.List {
			lines = appendLines(lines, set.Position(comment.Pos()).Line, comment.Text)
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
				lines = appendLines(lines, set.Position(n.Pos()).Line, n.Value)
			}
		}

		return true
	})

	return lines, nil
}

// appendLines appends the lines of text. The first one has the given number.
func appendLines(lines []line, number int, text string) []line {
	for l := range strings.Lines(text) {
		lines = append(lines, line{number, strings.TrimRight(l, "\r\n")})
		number++
	}

	return lines
}
