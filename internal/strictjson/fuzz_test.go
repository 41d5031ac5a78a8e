package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/peald/peald/internal/strictjson"
)

// FuzzRead compares accepted objects with the tokens of encoding/json. That package
// is lax: it replaces invalid UTF-8 and lone surrogates with U+FFFD, and leaves
// duplicates to its caller.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		`{"user_id":"alice","topics":["a","b"]}`, `{"user_id":null,"topics":null}`, `{"x":{"user_id":1},"user_id":2}`,
		"{\"user_id\":\"m\xfcller\"}", `{"user_id":"\ud83e\udd8a \ufffd"}`, `{"user_id":"\ud83d"}`, `{"userId":"a"}`,
		`{"user_id":"a","user_id":"b"}`, `{"u\u0073er_id":"a"}`, `{"topics":[null,{"x":1e999}]}`, `null`, "\ufeff{}", `{} {}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, closedErr := closedSchema().Read(data)
		object, err := openSchema().Read(data)
		if err != nil {
			if closedErr == nil {
				t.Errorf("rejected with %v, but accepted by a closed schema", err)
			}
			return
		}

		want := members(t, data)
		checkMember(t, object, "user_id", want, func(a, b string) bool { return a == b })
		checkMember(t, object, "topics", want, slices.Equal[[]string])

		for name := range want {
			if !slices.Contains(openSchema().Members, name) && closedErr == nil {
				t.Errorf("a closed schema accepts %q", name)
			}
			for _, member := range openSchema().Members {
				if name != member && strings.EqualFold(strings.ReplaceAll(name, "_", ""), strings.ReplaceAll(member, "_", "")) {
					t.Errorf("accepted %q, which resembles %q", name, member)
				}
			}
		}
	})
}

func checkMember[T any](t *testing.T, object strictjson.Object, name string, members map[string]json.RawMessage, equal func(a, b T) bool) {
	t.Helper()
	raw, ok := members[name]
	if ok != object.Has(name) {
		t.Errorf("Has(%q) = %t, want %t", name, !ok, ok)
	}
	if !ok {
		return
	}
	var got, want T
	gotErr, wantErr := object.Decode(name, &got), json.Unmarshal(raw, &want)
	if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !equal(got, want) {
		t.Errorf("%q is %#v, %v; encoding/json reads %#v, %v", name, got, gotErr, want, wantErr)
	}
}

var replacement = regexp.MustCompile(`(?i:\\ufffd)|\x{FFFD}`)

// members reads an accepted object token by token.
func members(t *testing.T, data []byte) map[string]json.RawMessage {
	t.Helper()
	if !utf8.Valid(data) {
		t.Fatalf("accepted %q, which is not UTF-8", data)
	}

	replaced := checkTokens(t, json.NewDecoder(bytes.NewReader(data)))
	if written := len(replacement.FindAll(data, -1)); replaced > written {
		t.Errorf("%q has U+FFFD %d times in strings, but %d times in the text", data, replaced, written)
	}

	dec := json.NewDecoder(bytes.NewReader(data))
	if opening, err := dec.Token(); err != nil || opening != json.Delim('{') {
		t.Fatalf("accepted %q, which is not an object: %v", data, err)
	}

	found := map[string]json.RawMessage{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
		found[name.(string)] = value
	}

	return found
}

// checkTokens checks that no object has duplicates, and returns how often U+FFFD
// occurs in strings.
func checkTokens(t *testing.T, dec *json.Decoder) (replaced int) {
	t.Helper()
	dec.UseNumber()

	type level struct {
		names map[string]bool // nil for a list
		value bool            // a value follows, not a name
	}

	var levels []level
	valueEnded := func() {
		if n := len(levels); n > 0 && levels[n-1].names != nil {
			levels[n-1].value = false
		}
	}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return replaced
		}
		if err != nil {
			t.Fatalf("encoding/json: %v", err)
		}

		text, isString := token.(string)
		replaced += strings.Count(text, "\uFFFD")
		n := len(levels)

		switch {
		case token == json.Delim('{'):
			levels = append(levels, level{names: map[string]bool{}})
		case token == json.Delim('['):
			levels = append(levels, level{})
		case token == json.Delim('}') || token == json.Delim(']'):
			levels = levels[:n-1]
			valueEnded()
		case isString && n > 0 && levels[n-1].names != nil && !levels[n-1].value:
			if levels[n-1].names[text] {
				t.Errorf("accepted %q twice in one object", text)
			}
			levels[n-1].names[text] = true
			levels[n-1].value = true
		default:
			valueEnded()
		}
	}
}
