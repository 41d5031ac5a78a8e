package configfile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// section is a mapping in a file, with its pairs in file order. It may contain a
// key more than once.
type section []pair

// list is a sequence. Its items are sections, lists and scalars.
type list []any

// pair is an entry of a section. Key may hold several names joined by dots.
type pair struct {
	key   string
	at    position
	value any // a section, a list or a scalar
}

// flatten returns the entries of root. The keys in errors start with prefix.
func flatten(prefix string, root section) ([]Entry, error) {
	f := flattener{prefix: prefix, mentions: map[string]Mention{}}
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
	prefix   string             // of keys in errors
	mentions map[string]Mention // values and sections, by key
	entries  []Entry
}

// add adds the pairs of s. Their keys follow prefix, which is spelled as written in
// the file.
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

		value, err := plain(f.prefix+key, p.value)
		if err != nil {
			return err
		}

		f.entries = append(f.entries, Entry{key, value, p.at.line})
	}

	return nil
}

// checkSections rejects a key that is both a value and a section. It removes the
// entries of empty sections that have entries elsewhere in the file.
func (f *flattener) checkSections() error {
	values := make(map[string]bool, len(f.entries)) // key → whether it isn't empty
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

	return &DuplicateError{f.prefix + key, a, b}
}

// isEmpty reports whether value is the value of an empty entry or section.
func isEmpty(value any) bool {
	inner, isSection := value.(map[string]any)

	return value == nil || isSection && len(inner) == 0
}

// plain converts the sections within value to maps. Key is the key of value.
func plain(key string, value any) (any, error) {
	switch value := value.(type) {
	case section:
		entries, err := flatten(key+".", value)
		if err != nil {
			return nil, err
		}

		return nest(entries), nil
	case list:
		items := make([]any, 0, len(value))
		for i, item := range value {
			item, err := plain(key+"["+strconv.Itoa(i)+"]", item)
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

// nest reverses flatten.
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
