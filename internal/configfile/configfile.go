// Package configfile reads configuration files in YAML, TOML and JSON. It never
// drops a value: a file that sets a key twice is an error.
//
// Keys are compared as the daemon looks them up: in lower case, with sections and
// names joined by dots. So auth and Auth are the same key, and so are sse.addr and
// addr in the section sse.
package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Format is the syntax of a file.
type Format string

// The formats that [Read] supports.
const (
	YAML Format = "yaml"
	TOML Format = "toml"
	JSON Format = "json"
)

// Entry is a value in a file.
type Entry struct {
	// Key is the path to the value, in lower case and joined by dots.
	Key string

	// Value is nil, a scalar with the type that the format gives it, a []any, or an
	// empty map[string]any for a section without entries. Sections within a list
	// are of type map[string]any, with keys in lower case.
	Value any

	// Line is the line of the key, counting from 1.
	Line int
}

// Read returns the entries of a file, sorted by key. The error is a
// [*SyntaxError] or a [*DuplicateError].
func Read(format Format, content []byte) ([]Entry, error) {
	content = bytes.TrimPrefix(content, []byte("\uFEFF"))
	if err := checkUTF8(content); err != nil {
		return nil, err
	}

	var root section
	var err error

	switch format {
	case YAML:
		root, err = readYAML(content)
	case TOML:
		root, err = readTOML(content)
	case JSON:
		root, err = readJSON(content)
	default:
		return nil, errors.New("configfile: unknown format " + string(format))
	}

	if err != nil {
		return nil, err
	}

	entries, err := flatten("", root)
	if err != nil {
		return nil, err
	}

	// Verify the content only after flatten, which reports both positions of a
	// duplicate key.
	if format == TOML {
		if err := verifyTOML(content); err != nil {
			return nil, err
		}
	}

	return entries, nil
}

// SyntaxError reports a file that can't be parsed.
type SyntaxError struct {
	Line    int // from 1; 0 if unknown
	Message string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return e.Message
	}

	return fmt.Sprintf("line %d: %s", e.Line, e.Message)
}

// DuplicateError reports a file that sets a key twice, or that uses a key both as a
// section and as a value.
type DuplicateError struct {
	Key           string // as in [Entry]
	First, Second Mention
}

func (e *DuplicateError) Error() string {
	return e.Key + " is set twice: " + e.Positions()
}

// Positions returns both positions in the file as text.
func (e *DuplicateError) Positions() string {
	if e.First.Line == e.Second.Line {
		return fmt.Sprintf("%s at line %d, column %d and %s at column %d",
			e.First.Key, e.First.Line, e.First.Column, e.Second.Key, e.Second.Column)
	}

	return fmt.Sprintf("%s at line %d and %s at line %d",
		e.First.Key, e.First.Line, e.Second.Key, e.Second.Line)
}

// Mention is a key as it is written in a file.
type Mention struct {
	Key          string // including the sections around it
	Line, Column int    // from 1
}

func (m Mention) before(other Mention) bool {
	return m.Line < other.Line || m.Line == other.Line && m.Column < other.Column
}

// checkUTF8 rejects invalid bytes, which parsers would replace.
func checkUTF8(content []byte) error {
	for i := 0; i < len(content); {
		r, size := utf8.DecodeRune(content[i:])
		if r == utf8.RuneError && size == 1 {
			return &SyntaxError{positionOf(content, i).line, "invalid UTF-8"}
		}
		i += size
	}

	return nil
}

// position is a position in a file. Lines and columns count from 1.
type position struct{ line, column int }

// positionOf converts an offset in content to a position.
func positionOf(content []byte, offset int) position {
	before := content[:min(max(offset, 0), len(content))]

	return position{
		line:   1 + bytes.Count(before, []byte("\n")),
		column: 1 + utf8.RuneCount(before[1+bytes.LastIndexByte(before, '\n'):]),
	}
}
