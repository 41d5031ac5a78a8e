package configfile

import (
	"cmp"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

func readTOML(content []byte) (section, error) {
	r := tomlReader{content: content, root: &tomlTable{}}
	r.table = r.root

	r.parser.Reset(content)

	for r.parser.NextExpression() {
		expression := r.parser.Expression()

		var err error

		switch expression.Kind {
		case unstable.Table, unstable.ArrayTable:
			r.header(expression)
		case unstable.KeyValue:
			err = r.keyValue(expression)
		default: // a comment
		}

		if err != nil {
			return nil, err
		}
	}

	if err := r.parser.Error(); err != nil {
		// verifyTOML returns the same error with its line.
		return nil, cmp.Or(verifyTOML(content), err)
	}

	return r.root.section(), nil
}

// verifyTOML rejects documents that match the grammar but violate the specification
// in some other way.
func verifyTOML(content []byte) error {
	err := toml.Unmarshal(content, &map[string]any{})
	if err == nil {
		return nil
	}

	line := 0
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ = at.Position()
	}

	return &SyntaxError{line, strings.TrimPrefix(err.Error(), "toml: ")}
}

// tomlTable is the root, or an element of an array of tables. Its nested tables are
// represented by pairs with dots in their keys.
type tomlTable struct {
	pairs  section
	arrays map[string]*tomlArray // by path
}

// tomlArray is an array of tables.
type tomlArray struct{ tables []*tomlTable }

// section converts t and its elements.
func (t *tomlTable) section() section {
	for i, p := range t.pairs {
		array, ok := p.value.(*tomlArray)
		if !ok {
			continue
		}

		items := make(list, 0, len(array.tables))
		for _, element := range array.tables {
			items = append(items, element.section())
		}

		t.pairs[i].value = items
	}

	return t.pairs
}

// tomlReader converts the expressions of a document.
type tomlReader struct {
	content []byte
	parser  unstable.Parser
	root    *tomlTable
	table   *tomlTable // table of the current header
	prefix  string     // prefix of the following keys in table
}

// header starts a table, or the next element of an array of tables.
func (r *tomlReader) header(expression *unstable.Node) {
	path, at := r.key(expression.Key())
	table, path := r.root.innermost(path)
	name := strings.Join(path, ".")

	if expression.Kind == unstable.Table {
		table.pairs = append(table.pairs, pair{name, at, section{}})
		r.table, r.prefix = table, name+"."

		return
	}

	array, ok := table.arrays[pathID(path)]
	if !ok {
		array = &tomlArray{}
		if table.arrays == nil {
			table.arrays = map[string]*tomlArray{}
		}
		table.arrays[pathID(path)] = array
		table.pairs = append(table.pairs, pair{name, at, array})
	}

	r.table, r.prefix = &tomlTable{}, ""
	array.tables = append(array.tables, r.table)
}

// innermost returns the table that contains path, and the path within it. If path
// leads through arrays of tables, that table is the last element of the last array.
func (t *tomlTable) innermost(path []string) (*tomlTable, []string) {
	for i := 1; i < len(path); i++ {
		if array, ok := t.arrays[pathID(path[:i])]; ok {
			return array.tables[len(array.tables)-1].innermost(path[i:])
		}
	}

	return t, path
}

// pathID returns a unique string for a path, whose names may contain dots.
func pathID(path []string) string { return strings.Join(path, "\x00") }

func (r *tomlReader) keyValue(expression *unstable.Node) error {
	p, err := r.pair(expression)
	p.key = r.prefix + p.key
	r.table.pairs = append(r.table.pairs, p)

	return err
}

func (r *tomlReader) pair(keyValue *unstable.Node) (pair, error) {
	path, at := r.key(keyValue.Key())
	value, err := r.value(keyValue.Value(), at)

	return pair{strings.Join(path, "."), at, value}, err
}

// key returns the names of a key and its position.
func (r *tomlReader) key(names unstable.Iterator) (path []string, at position) {
	for names.Next() {
		node := names.Node()
		if len(path) == 0 {
			at = positionOf(r.content, int(node.Raw.Offset))
		}
		path = append(path, string(node.Data))
	}

	return path, at
}

// value converts the value of the key at the given position.
func (r *tomlReader) value(n *unstable.Node, at position) (any, error) {
	switch n.Kind {
	case unstable.InlineTable:
		s := section{}
		for pairs := n.Children(); pairs.Next(); {
			p, err := r.pair(pairs.Node())
			if err != nil {
				return nil, err
			}
			s = append(s, p)
		}

		return s, nil
	case unstable.Array:
		items := list{}
		for values := n.Children(); values.Next(); {
			value, err := r.value(values.Node(), at)
			if err != nil {
				return nil, err
			}
			items = append(items, value)
		}

		return items, nil
	case unstable.String:
		return string(n.Data), nil
	default:
		// Let the parser convert numbers and dates.
		var alone struct{ V any }
		if err := toml.Unmarshal(append([]byte("V = "), n.Data...), &alone); err != nil {
			return nil, &SyntaxError{at.line, strings.TrimPrefix(err.Error(), "toml: ")}
		}

		return alone.V, nil
	}
}
