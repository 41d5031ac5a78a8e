package source

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// template is text with placeholders.
type template struct {
	parts []part
}

// part is literal text or a placeholder.
type part struct {
	text string // the literal; empty for a placeholder

	from placeholder
	name string   // of the field, for fromField
	path []string // of the member, for fromMember
	raw  bool     // objects and arrays are allowed, for fromMember
}

// placeholder selects the value that a placeholder stands for.
type placeholder uint8

const (
	fromText placeholder = iota
	fromOrigin
	fromPartition
	fromOffset
	fromKey
	fromValue
	fromField
	fromMember // a member of the value, which is a JSON object
)

// parseTemplate parses text. If raw is true and text is one placeholder, it may stand
// for a JSON object or array. The error states what is accepted.
func parseTemplate(text string, schema Schema, raw bool) (t template, _ error) {
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			t.parts = append(t.parts, part{text: literal.String()})
			literal.Reset()
		}
	}

	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			literal.WriteString(rest)
			break
		}
		literal.WriteString(rest[:i])
		rest = rest[i:]

		if strings.HasPrefix(rest, "{{") || strings.HasPrefix(rest, "}}") {
			literal.WriteByte(rest[0])
			rest = rest[2:]
			continue
		}

		end := strings.IndexByte(rest, '}')
		if rest[0] == '}' || end < 0 {
			return t, errors.New("braces in pairs, as in {key}; {{ and }} stand for single braces")
		}
		p, ok := schema.parse(rest[1:end])
		if !ok {
			return t, fmt.Errorf("only placeholders that the source has: %s", schema.placeholders())
		}
		flush()
		t.parts = append(t.parts, p)
		rest = rest[end+1:]
	}
	flush()

	if raw && len(t.parts) == 1 {
		t.parts[0].raw = true
	}

	return t, nil
}

// parse parses the inside of a placeholder.
func (s Schema) parse(text string) (p part, ok bool) {
	first, rest, dotted := strings.Cut(text, ".")

	switch {
	case dotted && rest == "":
		return p, false
	case dotted && first == s.Field && first != "":
		return part{from: fromField, name: rest}, true
	case dotted && first == "value" && s.Value:
		path := strings.Split(rest, ".")
		if slices.Contains(path, "") {
			return p, false
		}
		return part{from: fromMember, path: path}, true
	case dotted:
		return p, false
	case first == "key" && s.Key:
		return part{from: fromKey}, true
	case first == "value" && s.Value:
		return part{from: fromValue}, true
	case first == "partition":
		return part{from: fromPartition}, true
	case first == "offset":
		return part{from: fromOffset}, true
	case first == s.Origin && first != "":
		return part{from: fromOrigin}, true
	}

	return p, false
}

// placeholders lists the placeholders that parse accepts.
func (s Schema) placeholders() string {
	var names []string
	if s.Origin != "" {
		names = append(names, "{"+s.Origin+"}")
	}
	if s.Key {
		names = append(names, "{key}")
	}
	if s.Field != "" {
		names = append(names, "{"+s.Field+".NAME}")
	}
	if s.Value {
		names = append(names, "{value}", "{value.MEMBER}")
	}
	names = append(names, "{partition}", "{offset}")

	return strings.Join(names, ", ")
}

// literal returns the text of a template without placeholders.
func (t template) literal() (text string, ok bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].from == fromText:
		return t.parts[0].text, true
	}

	return "", false
}

// expand returns the template with the values of a record. It returns false if one of
// them is missing. Its error contains nothing of the record.
func (t template) expand(values *resolver) (text string, ok bool, err error) {
	if len(t.parts) == 1 {
		return values.get(&t.parts[0])
	}

	var b strings.Builder
	for i := range t.parts {
		value, ok, err := values.get(&t.parts[i])
		if err != nil || !ok {
			return "", false, err
		}
		b.WriteString(value)
	}

	return b.String(), true, nil
}

// resolver returns the values of one record's placeholders.
type resolver struct {
	record  *Record
	checked bool // the value is valid JSON
}

func (v *resolver) get(p *part) (value string, ok bool, err error) {
	r := v.record

	switch p.from {
	case fromText:
		return p.text, true, nil
	case fromOrigin:
		return r.Origin, true, nil
	case fromPartition:
		return r.Partition, true, nil
	case fromOffset:
		return r.Offset, true, nil
	case fromKey:
		return string(r.Key), r.Key != nil, nil
	case fromValue:
		return string(r.Value), r.Value != nil, nil
	case fromField:
		value, ok = r.field(p.name)
		return value, ok, nil
	default:
		return v.member(p)
	}
}

var (
	errNotJSON   = errors.New("the record's value isn't a valid JSON object with unique names")
	errNotScalar = errors.New("the member of the record's value is an object or array; want a string, number or boolean")
)

// member returns a member of the record's value. A null counts as missing.
func (v *resolver) member(p *part) (value string, ok bool, err error) {
	if v.record.Value == nil {
		return "", false, nil
	}

	whole := jsontext.Value(v.record.Value)
	if !v.checked && (!whole.IsValid() || whole.Kind() != '{') {
		return "", false, errNotJSON
	}
	v.checked = true

	member, err := find(whole, p.path)
	if err != nil || member == nil {
		return "", false, err
	}

	switch member.Kind() {
	case 'n':
		return "", false, nil
	case '"':
		text, err := jsontext.AppendUnquote(nil, member)
		return string(text), err == nil, err
	case '{', '[':
		if !p.raw {
			return "", false, errNotScalar
		}
	}

	return string(member), true, nil
}

// find returns the member of a valid JSON value at path, or nil if there is none.
func find(value jsontext.Value, path []string) (jsontext.Value, error) {
	for _, name := range path {
		d := jsontext.NewDecoder(bytes.NewReader(value))

		start, err := d.ReadToken()
		if err != nil {
			return nil, errNotJSON
		}
		if start.Kind() != '{' {
			return nil, nil
		}

		value = nil
		for d.PeekKind() == '"' {
			member, err := d.ReadToken()
			if err != nil {
				return nil, errNotJSON
			}
			if member.String() != name {
				if err := d.SkipValue(); err != nil {
					return nil, errNotJSON
				}
				continue
			}

			found, err := d.ReadValue()
			if err != nil {
				return nil, errNotJSON
			}
			value = found.Clone()
			break
		}
		if value == nil {
			return nil, nil
		}
	}

	return value, nil
}
