package configfile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// section is a mapping as a file has it, with the pairs in their order. A key
// may be there more than once.
type section []pair

// list is a sequence. Its items are sections, lists and scalars.
type list []any

// pair is an entry of a section. Key may hold several names joined by dots.
type pair struct {
	key   string
	at    position
	value any // a section, a list or a scalar
}

// flatten returns the entries of root. Place is what the keys of errors begin
// with.
func flatten(place string, root section) ([]Entry, error) {
	f := flattener{place: place, mentions: map[string]Mention{}}
	if err := f.add("", "", root); err != nil {
		return nil, err
	}
	if err := f.checkSections(); err != nil {
		return nil, err
	}

	slices.SortFunc(f.entries, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })

	return f.entries, nil
}

// flattener collects the entries of a file, or of one section within a list.
type flattener struct {
	place    string
	mentions map[string]Mention // of values and sections, by key
	entries  []Entry
}

// add adds the pairs of s, whose keys follow prefix, which is written as
// written.
func (f *flattener) add(prefix, written string, s section) error {
	for _, p := range s {
		key := prefix + strings.ToLower(p.key)
		mention := Mention{written + p.key, p.at.line, p.at.column}

		if other, ok := f.mentions[key]; ok {
			return f.duplicate(key, other, mention)
		}

		f.mentions[key] = mention

		if inner, ok := p.value.(section); ok && len(inner) > 0 {
			if err := f.add(key+".", mention.Key+".", inner); err != nil {
				return err
			}

			continue
		}

		value, err := plain(f.place+key, p.value)
		if err != nil {
			return err
		}

		f.entries = append(f.entries, Entry{key, value, p.at.line})
	}

	return nil
}

// checkSections rejects a key that is both a value and a section, and removes
// the entries of sections that were left empty in one place and are filled in
// another.
func (f *flattener) checkSections() error {
	values := make(map[string]bool, len(f.entries)) // key → it isn't empty
	for _, entry := range f.entries {
		values[entry.Key] = !isEmpty(entry.Value)
	}

	filled := map[string]bool{}
	for _, entry := range f.entries {
		for i, r := range entry.Key {
			if r != '.' {
				continue
			}

			outer := entry.Key[:i]
			if values[outer] {
				return f.duplicate(outer, f.mentions[outer], f.mentions[entry.Key])
			}
			filled[outer] = true
		}
	}

	f.entries = slices.DeleteFunc(f.entries, func(entry Entry) bool { return filled[entry.Key] })

	return nil
}

func (f *flattener) duplicate(key string, a, b Mention) error {
	if b.before(a) {
		a, b = b, a
	}

	return &DuplicateError{f.place + key, a, b}
}

// isEmpty reports whether value is that of an entry or section left empty.
func isEmpty(value any) bool {
	inner, isSection := value.(map[string]any)

	return value == nil || isSection && len(inner) == 0
}

// plain converts the sections within value to maps. Place is the key of value.
func plain(place string, value any) (any, error) {
	switch value := value.(type) {
	case section:
		entries, err := flatten(place+".", value)
		if err != nil {
			return nil, err
		}

		return nest(entries), nil
	case list:
		items := make([]any, 0, len(value))
		for i, item := range value {
			item, err := plain(place+"["+strconv.Itoa(i)+"]", item)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}

		return items, nil
	default:
		return value, nil
	}
}

// nest is the reverse of flatten.
func nest(entries []Entry) map[string]any {
	root := map[string]any{}
	for _, entry := range entries {
		path := strings.Split(entry.Key, ".")
		last := len(path) - 1

		inner := root

		for _, name := range path[:last] {
			next, ok := inner[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				inner[name] = next
			}
			inner = next
		}

		inner[path[last]] = entry.Value
	}

	return root
}
