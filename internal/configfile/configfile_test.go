package configfile_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/peald/peald/internal/configfile"
)

// document is the content of a file and its format.
type document struct {
	format  configfile.Format
	content string
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		document
		key, positions string
	}{
		"a section under two spellings": {
			document{configfile.YAML, "auth: {anonymous: false}\nAuth: {cookie: session}\n"},
			"auth", "auth at line 1 and Auth at line 2",
		},
		"a section twice": {
			document{configfile.YAML, "auth: {anonymous: false}\nauth: {cookie: session}\n"},
			"auth", "auth at line 1 and auth at line 2",
		},
		"a section under two spellings in JSON": {
			document{configfile.JSON, "{\n\"sse\": {\"addr\": \"a\"},\n\"SSE\": {\"retry\": \"5s\"}}"},
			"sse", "sse at line 2 and SSE at line 3",
		},
		"a section under two spellings in TOML": {
			document{configfile.TOML, "[sse]\naddr = 'a'\n[SSE]\nretry = '5s'\n"},
			"sse", "sse at line 1 and SSE at line 3",
		},
		"a key under two spellings": {
			document{configfile.YAML, "sse: {addr: a, Addr: b}\n"},
			"sse.addr", "sse.addr at line 1, column 7 and sse.Addr at column 16",
		},
		"a key under two spellings in TOML": {
			document{configfile.TOML, "[sse]\naddr = 'a'\nADDR = 'b'\n"},
			"sse.addr", "sse.addr at line 2 and sse.ADDR at line 3",
		},
		"a key with a letter that folds to ASCII": {
			document{configfile.JSON, `{"log": 1, "` + "\u212A" + `ey": 1, "key": 2}`},
			"key", "\u212Aey at line 1, column 12 and key at column 22",
		},
		"a dotted key and a section": {
			document{configfile.YAML, "sse.addr: a\nsse: {addr: b}\n"},
			"sse.addr", "sse.addr at line 1 and sse.addr at line 2",
		},
		"a dotted key in a section": {
			document{configfile.JSON, "{\"auth\": {\"jwt.issuer\": \"a\",\n\"JWT\": {\"issuer\": \"b\"}}}"},
			"auth.jwt.issuer", "auth.jwt.issuer at line 1 and auth.JWT.issuer at line 2",
		},
		"a quoted dotted key in TOML": {
			document{configfile.TOML, "\"sse.addr\" = 'a'\n[sse]\naddr = 'b'\n"},
			"sse.addr", "sse.addr at line 1 and sse.addr at line 3",
		},
		"a key twice in JSON": {
			document{configfile.JSON, `{"auth":{"anonymous":false,"anonymous":true}}`},
			"auth.anonymous", "auth.anonymous at line 1, column 10 and auth.anonymous at column 28",
		},
		"a key twice in TOML": {
			document{configfile.TOML, "[auth]\nanonymous = false\nanonymous = true\n"},
			"auth.anonymous", "auth.anonymous at line 2 and auth.anonymous at line 3",
		},
		"a table twice in TOML": {
			document{configfile.TOML, "[auth]\nanonymous = false\n[log]\n[auth]\ncookie = ''\n"},
			"auth", "auth at line 1 and auth at line 4",
		},
		"a value and a section": {
			document{configfile.YAML, "sse: 8080\nsse.addr: a\n"},
			"sse", "sse at line 1 and sse.addr at line 2",
		},
		"a list and a section": {
			document{configfile.TOML, "control.tokens = []\n[control.tokens.a]\nb = 1\n"},
			"control.tokens", "control.tokens at line 1 and control.tokens.a at line 2",
		},
		"a key twice in a list": {
			document{configfile.YAML, "control:\n  tokens:\n  - {name: a}\n  - name: b\n    Name: c\n"},
			"control.tokens[1].name", "name at line 4 and Name at line 5",
		},
		"a key twice in an array of tables": {
			document{configfile.TOML, "[[control.tokens]]\nname = 'a'\n[[control.tokens]]\nname = 'b'\nName = 'c'\n"},
			"control.tokens[1].name", "name at line 4 and Name at line 5",
		},
		"an array of tables under two spellings": {
			document{configfile.TOML, "[[control.tokens]]\nname = 'a'\n[[Control.tokens]]\nname = 'b'\n"},
			"control.tokens", "control.tokens at line 1 and Control.tokens at line 3",
		},
		"a merged key under another spelling": {
			document{configfile.YAML, "grpc: {tls: &t {cert_file: a}}\nsse:\n  tls:\n    <<: *t\n    Cert_file: b\n"},
			"sse.tls.cert_file", "sse.tls.cert_file at line 1 and sse.tls.Cert_file at line 5",
		},
		"an alias under two spellings": {
			document{configfile.YAML, "auth: &a {anonymous: false}\nAUTH: *a\n"},
			"auth", "auth at line 1 and AUTH at line 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entries, err := configfile.Read(test.format, []byte(test.content))
			duplicate, ok := errors.AsType[*configfile.DuplicateError](err)
			if !ok {
				t.Fatalf("read %v, %v", entries, err)
			}
			if duplicate.Key != test.key || duplicate.Positions() != test.positions {
				t.Errorf("error is %q, want %s: %s", err, test.key, test.positions)
			}
		})
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		document
		want []configfile.Entry
	}{
		"nothing":        {document{configfile.YAML, ""}, nil},
		"a comment":      {document{configfile.YAML, "# sse\n"}, nil},
		"a document end": {document{configfile.YAML, "---\na: 1\n...\n"}, []configfile.Entry{{"a", 1, 2}}},
		"a byte order mark": {
			document{configfile.JSON, "\uFEFF{\"a\": true}"},
			[]configfile.Entry{{"a", true, 1}},
		},
		"keys in any case": {
			document{configfile.YAML, "SSE:\n  Addr: a\nsse.retry: b\n"},
			[]configfile.Entry{{"sse.addr", "a", 2}, {"sse.retry", "b", 3}},
		},
		"dotted keys": {
			document{configfile.TOML, "sse.tls.cert_file = 'a'\nsse.tls.key_file = 'b'\n"},
			[]configfile.Entry{{"sse.tls.cert_file", "a", 1}, {"sse.tls.key_file", "b", 2}},
		},
		"a table after the one inside": {
			document{configfile.TOML, "[sse.tls]\ncert_file = 'a'\n[sse]\naddr = 'b'\n"},
			[]configfile.Entry{{"sse.addr", "b", 4}, {"sse.tls.cert_file", "a", 2}},
		},
		"empty entries": {
			document{configfile.YAML, "a:\nb: {}\nc: ''\nd: {e: ~}\nf:\nf.g: 1\n"},
			[]configfile.Entry{{"a", nil, 1}, {"b", map[string]any{}, 2}, {"c", "", 3}, {"d.e", nil, 4}, {"f.g", 1, 6}},
		},
		"a merge with replaced entries": {
			document{configfile.YAML, "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\n"},
			[]configfile.Entry{{"a.x", 1, 1}, {"a.y", 2, 1}, {"b.y", 3, 2}, {"b.z", 4, 2}, {"c.x", 5, 3}, {"c.y", 2, 1}, {"c.z", 4, 2}},
		},
		"aliases": {
			document{configfile.YAML, "a: &a [1, &b {c: d}]\ne: *a\nf: *b\n"},
			[]configfile.Entry{{"a", []any{1, map[string]any{"c": "d"}}, 1}, {"e", []any{1, map[string]any{"c": "d"}}, 2}, {"f.c", "d", 1}},
		},
		"sections in a list": {
			document{configfile.YAML, "topics:\n- {Pattern: a, history.max_age: 1h, history: {max_events: 1}}\n- [{b: ~}]\n"},
			[]configfile.Entry{{"topics", []any{
				map[string]any{"pattern": "a", "history": map[string]any{"max_age": "1h", "max_events": 1}},
				[]any{map[string]any{"b": nil}},
			}, 1}},
		},
		"arrays of tables": {
			document{configfile.TOML, "[[t]]\npattern = 'a'\n[t.history]\nmax_events = 1\n[[t.more]]\nb = 1.5\n[[t]]\nhistory.max_age = '1h'\n"},
			[]configfile.Entry{{"t", []any{
				map[string]any{"pattern": "a", "history": map[string]any{"max_events": int64(1)}, "more": []any{map[string]any{"b": 1.5}}},
				map[string]any{"history": map[string]any{"max_age": "1h"}},
			}, 1}},
		},
		"surrogate pairs": {
			document{configfile.JSON, `{"a": "\ud83d\ude00 \\ud83d \ufffd"}`},
			[]configfile.Entry{{"a", "\U0001F600 \\ud83d \uFFFD", 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entries, err := configfile.Read(test.format, []byte(test.content))
			if err != nil || !reflect.DeepEqual(entries, test.want) {
				t.Errorf("read %#v, %v; want %#v", entries, err, test.want)
			}
		})
	}
}

func TestSyntaxErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		document
		line int
		want string
	}{
		"broken YAML":                 {document{configfile.YAML, "log: {}\nsse:\n\t- x\n"}, 3, "cannot start any token"},
		"broken YAML in line 1":       {document{configfile.YAML, "sse: ]\n"}, 1, "did not find expected"},
		"a control character in YAML": {document{configfile.YAML, "a: b\nc: \x01\n"}, 2, "control characters"},
		"an unknown anchor":           {document{configfile.YAML, "a: 1\nb: *c\n"}, 2, "unknown anchor"},
		"a second document":           {document{configfile.YAML, "log: {level: debug}\n---\nauth: {anonymous: false}\n"}, 2, "second document"},
		"an empty second document":    {document{configfile.YAML, "a: 1\n---\n"}, 2, "second document"},
		"a list for the root":         {document{configfile.YAML, "\n- sse\n"}, 2, "not a section"},
		"a number for a key":          {document{configfile.YAML, "a: 1\n2: b\n"}, 2, "not a string"},
		"a list for a key":            {document{configfile.YAML, "a: 1\n[b]: c\n"}, 2, "not a string"},
		"a merge of a string":         {document{configfile.YAML, "a:\n  <<: b\n"}, 2, "not a section"},
		"two merges":                  {document{configfile.YAML, "a: &a {x: 1}\nb:\n  <<: *a\n  <<: {x: 2}\n"}, 4, "second <<"},
		"a recursive alias":           {document{configfile.YAML, "a: 1\nb: &b\n  c: *b\n"}, 2, "alias of itself"},
		"exponential aliases":         {document{configfile.YAML, bomb()}, 0, "more than 100000 entries"},
		"an invalid number":           {document{configfile.YAML, "a: 1\nb: !!int c\n"}, 2, "cannot decode"},
		"broken JSON":                 {document{configfile.JSON, "{\n\"a\": 1,\n}"}, 3, "invalid character"},
		"truncated JSON":              {document{configfile.JSON, "{\n\"a\":\n"}, 2, "unexpected end"},
		"empty JSON":                  {document{configfile.JSON, ""}, 1, "unexpected end"},
		"trailing JSON":               {document{configfile.JSON, "{}\n{}"}, 2, "after top-level value"},
		"a number out of range":       {document{configfile.JSON, "{\"a\":\n1e999}"}, 2, "out of range"},
		"a list for the root in JSON": {document{configfile.JSON, "[]"}, 1, "not an object"},
		"half a surrogate pair":       {document{configfile.JSON, "{\"a\":\n\"\\ud800x\"}"}, 2, "surrogate"},
		"two halves in wrong order":   {document{configfile.JSON, `{"a": "\udc00\ud800"}`}, 1, "surrogate"},
		"half a pair in a key":        {document{configfile.JSON, `{"\ud800": 1}`}, 1, "surrogate"},
		"invalid UTF-8":               {document{configfile.JSON, "{\"a\":\n\"\xff\"}"}, 2, "UTF-8"},
		"Latin-1 in YAML":             {document{configfile.YAML, "a: 1\nb: \xe9\n"}, 2, "UTF-8"},
		"broken TOML":                 {document{configfile.TOML, "a = 1\n[sse\n"}, 2, "expected"},
		"a value missing in TOML":     {document{configfile.TOML, "a = 1\nb =\n"}, 2, "number"},
		"a bad number in TOML":        {document{configfile.TOML, "a = 1\nb = 1__0\n"}, 2, "digit"},
		"a bad date in TOML":          {document{configfile.TOML, "a = 1\nb = 2026-02-30\n"}, 2, "date"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entries, err := configfile.Read(test.format, []byte(test.content))
			syntax, ok := errors.AsType[*configfile.SyntaxError](err)
			if !ok {
				t.Fatalf("read %v, %v", entries, err)
			}
			if syntax.Line != test.line || !strings.Contains(syntax.Message, test.want) {
				t.Errorf("error is %q, want line %d: …%s…", err, test.line, test.want)
			}
		})
	}
}

// bomb returns YAML whose nested aliases expand to a million entries.
func bomb() string {
	text := "a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n"
	for i, line := range strings.Split("a1 a2 a3 a4 a5 a6", " ") {
		alias := "*a" + string(rune('0'+i))
		text += line + ": &" + line + " [" + alias + strings.Repeat(", "+alias, 9) + "]\n"
	}

	return text
}
