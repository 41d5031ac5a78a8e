package configfile_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	burntsushi "github.com/BurntSushi/toml"
	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"github.com/peald/peald/internal/configfile"
)

// These tests compare accepted documents with the result from another parser,
// or for YAML with another interface of the same parser.

func FuzzYAML(f *testing.F) {
	for _, content := range []string{
		"sse: {addr: ':8080', heartbeat: 15s}\nsse.retry: 3s\n",
		"a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [*a, {z: 4}]}\n",
		"a: &a [1, &b {c: d}]\ne: *a\nf: *b\n",
		"? a\n: b\n---\nc: d\n",
		"auth: {anonymous: false}\nAuth: {cookie: c}\n",
		"a: 0x1F\nb: 1_000\nc: .inf\nd: 2026-01-02\ne: !!binary aGk=\nf: !!str 5\ng: |\n  text\n",
		"control:\n  tokens:\n  - {name: a, name.b: c}\n  - [~, {d: }]\n",
	} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) {
		compare(t, configfile.YAML, content, func(into *map[string]any) error {
			return yaml.Unmarshal([]byte(withoutBOM(content)), into)
		})
	})
}

func FuzzJSON(f *testing.F) {
	for _, content := range []string{
		`{"sse": {"addr": ":8080"}, "sse.retry": "3s"}`,
		`{"auth": {"anonymous": false, "anonymous": true}}`,
		`{"a": "\ud83d\ude00", "b": "\ud83d", "c": "\ufffd"}`,
		`{"tokens": [{"name": "a", "Name": "b"}, [null, 1e3, -0.5, {}]]}`,
		"\uFEFF{\"\u212A\": 1, \"k\": 2}",
		`{} {}`,
	} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) {
		// Unlike encoding/json, this rejects duplicate names and invalid UTF-8.
		compare(t, configfile.JSON, content, func(into *map[string]any) error {
			return json.Unmarshal([]byte(withoutBOM(content)), into)
		})
	})
}

func FuzzTOML(f *testing.F) {
	for _, content := range []string{
		"sse.retry = '3s'\n[sse.tls]\ncert_file = 'a'\n[log]\nlevel = \"info\"\n",
		"[[t]]\na = 1\n[t.b]\nc = 2\n[[t.d]]\ne = 3\n[[t]]\n\"f.g\" = 4\n",
		"[sse]\naddr = 'a'\n[SSE]\nretry = 'b'\n",
		"a = [1, 2.5, 'x', {b = true, c.d = nan}]\ne = 0x_1\n",
		"a = 2026-01-02T03:04:05Z\nb = 2026-01-02\nc = 03:04:05\nd = 1_000\ne = 0o17\nf = inf\n",
		"a = '''\nb'''\nc = \"\\u00e9\"\nd = []\ne = {}\n",
	} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) {
		compare(t, configfile.TOML, content, func(into *map[string]any) error {
			_, err := burntsushi.Decode(withoutBOM(content), into)

			return err
		})
	})
}

func withoutBOM(content string) string { return strings.TrimPrefix(content, "\uFEFF") }

// compare fails the test if the content is accepted, but differs from what read
// returns.
func compare(t *testing.T, format configfile.Format, content string, read func(into *map[string]any) error) {
	t.Helper()
	entries, err := configfile.Read(format, []byte(content))
	if err != nil {
		_, isSyntax := errors.AsType[*configfile.SyntaxError](err)
		_, isDuplicate := errors.AsType[*configfile.DuplicateError](err)
		if !isSyntax && !isDuplicate {
			t.Fatalf("error is %#v", err)
		}

		return
	}

	got := map[string]any{}
	for _, entry := range entries {
		if _, ok := got[entry.Key]; ok {
			t.Fatalf("read %q twice: %v", entry.Key, entries)
		}
		if lines := 1 + strings.Count(content, "\n"); entry.Line < 1 || entry.Line > lines {
			t.Errorf("%q is at line %d of %d", entry.Key, entry.Line, lines)
		}
		got[entry.Key] = common(t, entry.Value)
	}

	var root map[string]any
	if err := read(&root); err != nil {
		t.Fatalf("read %v, but the other parser fails: %v", entries, err)
	}
	if want := flat(t, root); !reflect.DeepEqual(got, want) {
		t.Errorf("read %#v, the other parser %#v", got, want)
	}
}

// flat flattens a section of the other parser. It fails the test if that loses a
// value.
func flat(t *testing.T, section map[string]any) map[string]any {
	t.Helper()
	values := map[string]any{}
	var add func(prefix string, section map[string]any)
	add = func(prefix string, section map[string]any) {
		for name, value := range section {
			key := prefix + strings.ToLower(name)
			if inner, ok := value.(map[string]any); ok && len(inner) > 0 {
				add(key+".", inner)
				continue
			}

			value = common(t, value)
			if other, ok := values[key]; ok && (other != nil || value != nil) {
				t.Fatalf("%q is accepted with the values %v and %v", key, other, value)
			}

			values[key] = value
		}
	}

	add("", section)

	for key := range values {
		for outer := key; strings.Contains(outer, "."); {
			outer = outer[:strings.LastIndexByte(outer, '.')]
			if value, ok := values[outer]; ok {
				if value != nil && !reflect.DeepEqual(value, map[string]any{}) {
					t.Fatalf("%q is accepted as a value next to %q", outer, key)
				}
				delete(values, outer)
			}
		}
	}

	return values
}

// common converts value to the types that all parsers have in common.
func common(t *testing.T, value any) any {
	t.Helper()
	switch value := value.(type) {
	case nil, bool, string:
		return value
	case []any:
		list := []any{}
		for _, item := range value {
			list = append(list, common(t, item))
		}

		return list
	case []map[string]any: // arrays of tables in BurntSushi's parser
		list := []any{}
		for _, item := range value {
			list = append(list, common(t, item))
		}

		return list
	case map[string]any:
		return flat(t, value)
	}

	switch kind := reflect.TypeOf(value).Kind(); {
	case kind >= reflect.Int && kind <= reflect.Float64:
		return fmt.Sprint(value)
	case reflect.TypeOf(value).PkgPath() == "time", strings.HasPrefix(reflect.TypeOf(value).Name(), "Local"):
		return time.Time{} // each parser has its own types, and no setting uses them
	default:
		t.Fatalf("a value of type %T", value)

		return nil
	}
}
