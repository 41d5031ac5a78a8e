package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes limits the number of nodes in a document with all aliases expanded.
const maxNodes = 100_000

func readYAML(content []byte) (section, error) {
	documents := yaml.NewDecoder(bytes.NewReader(content))

	var first, second yaml.Node
	if err := documents.Decode(&first); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, yamlError(content, err)
	}

	switch err := documents.Decode(&second); {
	case err == nil:
		return nil, &SyntaxError{second.Line, "a second document; want all settings in one"}
	case !errors.Is(err, io.EOF):
		return nil, yamlError(content, err)
	}

	r := yamlReader{open: map[*yaml.Node]bool{}}
	value, err := r.value(&first)
	if err != nil {
		return nil, err
	}

	root, ok := value.(section)
	if !ok && value != nil {
		return nil, &SyntaxError{first.Content[0].Line, "not a section; want entries such as sse: {addr: …}"}
	}

	return root, nil
}

// yamlReader converts a tree of nodes.
type yamlReader struct {
	open map[*yaml.Node]bool // mappings and sequences around the current node
	seen int                 // number of nodes converted so far
}

func (r *yamlReader) value(n *yaml.Node) (any, error) {
	if r.seen++; r.seen > maxNodes {
		return nil, &SyntaxError{0, fmt.Sprintf("more than %d entries after expanding aliases", maxNodes)}
	}

	switch n.Kind {
	case yaml.DocumentNode:
		return r.value(n.Content[0])
	case yaml.AliasNode:
		return r.value(n.Alias)
	case yaml.ScalarNode:
		var value any
		if err := n.Decode(&value); err != nil {
			return nil, &SyntaxError{n.Line, strings.TrimPrefix(err.Error(), "yaml: ")}
		}

		return value, nil
	default: // a mapping or a sequence
	}

	if r.open[n] {
		return nil, &SyntaxError{n.Line, "anchor &" + n.Anchor + " contains an alias of itself"}
	}

	r.open[n] = true
	defer delete(r.open, n)

	if n.Kind == yaml.MappingNode {
		return r.mapping(n)
	}

	items := make(list, 0, len(n.Content))
	for _, item := range n.Content {
		value, err := r.value(item)
		if err != nil {
			return nil, err
		}
		items = append(items, value)
	}

	return items, nil
}

// mapping returns the pairs of n, followed by those merged by "<<". Pairs of n
// replace merged pairs with exactly the same key, and earlier merges replace later
// ones. A key that is spelled differently replaces nothing and becomes a duplicate.
func (r *yamlReader) mapping(n *yaml.Node) (section, error) {
	var own section
	var merged []*yaml.Node

	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Value == "<<" && key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}

		name := key
		if name.Kind == yaml.AliasNode {
			name = name.Alias
		}
		if name.Kind != yaml.ScalarNode || name.ShortTag() != "!!str" {
			return nil, &SyntaxError{key.Line, fmt.Sprintf("a key that is not a string: %q; want it in quotes", name.Value)}
		}

		converted, err := r.value(value)
		if err != nil {
			return nil, err
		}

		own = append(own, pair{name.Value, position{key.Line, key.Column}, converted})
	}

	switch {
	case len(merged) == 0:
		return own, nil
	case len(merged) > 1:
		return nil, &SyntaxError{merged[1].Line, "a second << in one section; want << with a list of aliases"}
	}

	return r.merge(own, merged[0])
}

// merge appends the pairs of source to own. source is the value of a "<<": a
// mapping or a sequence of mappings.
func (r *yamlReader) merge(own section, source *yaml.Node) (section, error) {
	sources := []*yaml.Node{source}
	if source.Kind == yaml.SequenceNode {
		sources = source.Content
	}

	taken := map[string]bool{}
	for _, p := range own {
		taken[p.key] = true
	}

	for _, source := range sources {
		value, err := r.value(source)
		if err != nil {
			return nil, err
		}

		pairs, ok := value.(section)
		if !ok {
			return nil, &SyntaxError{source.Line, "<< with a value that is not a section; want the alias of one, or a list of such aliases"}
		}

		for _, p := range pairs {
			if !taken[p.key] {
				own = append(own, p)
			}
		}

		for _, p := range pairs {
			taken[p.key] = true
		}
	}

	return own, nil
}

// yamlError converts an error from the parser.
func yamlError(content []byte, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimSpace(strings.TrimPrefix(text, "unmarshal errors:"))

	const atLine = `^line (\d+): (?s)(.*)$`
	if found := regexp.MustCompile(atLine).FindStringSubmatch(text); found != nil {
		line, _ := strconv.Atoi(found[1]) // it consists of digits

		return &SyntaxError{line, found[2]}
	}

	// The parser reports no line for errors in line 1 or for these two errors.
	line := 1
	const unknownAnchor = `^unknown anchor '(.*)' referenced$`

	if strings.Contains(text, "control characters") {
		line = positionOf(content, bytes.IndexFunc(content, isControl)).line
	} else if found := regexp.MustCompile(unknownAnchor).FindStringSubmatch(text); found != nil {
		line = positionOf(content, bytes.Index(content, []byte("*"+found[1]))).line
	}

	return &SyntaxError{line, text}
}

// isControl reports whether YAML rejects r everywhere, even in quotes.
func isControl(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r', r == 0x85:
		return false
	case r < ' ', r >= 0x7f && r < 0xa0, r == 0xfffe, r == 0xffff, r == 0xfeff:
		return true
	default:
		return false
	}
}
