package strictjson_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/strictjson"
)

func openSchema() strictjson.Schema {
	return strictjson.Schema{Members: []string{"user_id", "topics"}}
}

func closedSchema() strictjson.Schema {
	schema := openSchema()
	schema.Closed = true
	return schema
}

func TestRejectedObjects(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want strictjson.Error
	}{
		"nothing":                       {``, strictjson.Error{Problem: strictjson.NotJSON}},
		"half an object":                {`{"user_id":"a"`, strictjson.Error{Problem: strictjson.NotJSON}},
		"two objects":                   {`{} {}`, strictjson.Error{Problem: strictjson.NotJSON}},
		"garbage after the object":      {`{}x`, strictjson.Error{Problem: strictjson.NotJSON}},
		"a trailing comma":              {`{"user_id":"a",}`, strictjson.Error{Problem: strictjson.NotJSON}},
		"a name without quotes":         {`{user_id:"a"}`, strictjson.Error{Problem: strictjson.NotJSON}},
		"a bad escape":                  {`{"user_id":"\x61"}`, strictjson.Error{Problem: strictjson.NotJSON, Member: "user_id"}},
		"a line break in a string":      {"{\"user_id\":\"a\nb\"}", strictjson.Error{Problem: strictjson.NotJSON, Member: "user_id"}},
		"null":                          {`null`, strictjson.Error{Problem: strictjson.NotObject}},
		"a list":                        {`[{"user_id":"a"}]`, strictjson.Error{Problem: strictjson.NotObject}},
		"Latin-1":                       {"{\"user_id\":\"m\xfcller\"}", strictjson.Error{Problem: strictjson.NotUTF8, Member: "user_id"}},
		"Latin-1 elsewhere":             {"{\"user_id\":\"a\",\"x\":\"\xfc\"}", strictjson.Error{Problem: strictjson.NotUTF8}},
		"Latin-1 in a name":             {"{\"user\xfc\":1}", strictjson.Error{Problem: strictjson.NotUTF8}},
		"an overlong encoding":          {"{\"user_id\":\"\xc0\xaf\"}", strictjson.Error{Problem: strictjson.NotUTF8, Member: "user_id"}},
		"a surrogate in UTF-8":          {"{\"user_id\":\"\xed\xa0\xbd\"}", strictjson.Error{Problem: strictjson.NotUTF8, Member: "user_id"}},
		"a high surrogate alone":        {`{"user_id":"x\ud83d"}`, strictjson.Error{Problem: strictjson.LoneSurrogate, Member: "user_id"}},
		"a low surrogate alone":         {`{"user_id":"x\uDD8Ay"}`, strictjson.Error{Problem: strictjson.LoneSurrogate, Member: "user_id"}},
		"surrogates in the wrong order": {`{"user_id":"\udd8a\ud83e"}`, strictjson.Error{Problem: strictjson.LoneSurrogate, Member: "user_id"}},
		"a surrogate deep inside":       {`{"x":[{"y":"\ud83d"}]}`, strictjson.Error{Problem: strictjson.LoneSurrogate}},
		"a surrogate in a name":         {`{"\ud83d":1}`, strictjson.Error{Problem: strictjson.LoneSurrogate}},
		"a member twice":                {`{"user_id":"a","user_id":"b"}`, strictjson.Error{Problem: strictjson.Duplicate, Member: "user_id", Name: "user_id"}},
		"a member twice, once escaped":  {`{"user_id":"a","user\u005fid":"a"}`, strictjson.Error{Problem: strictjson.Duplicate, Member: "user_id", Name: "user_id"}},
		"another member twice":          {`{"x":1,"user_id":"a","x":1}`, strictjson.Error{Problem: strictjson.Duplicate, Name: "x"}},
		"a member twice, deep inside":   {`{"topics":[{"x":1,"x":2}]}`, strictjson.Error{Problem: strictjson.Duplicate, Member: "topics", Name: "x"}},
		"capitals":                      {`{"User_ID":"a"}`, strictjson.Error{Problem: strictjson.Misspelled, Member: "user_id", Name: "User_ID"}},
		"camel case":                    {`{"userId":"a"}`, strictjson.Error{Problem: strictjson.Misspelled, Member: "user_id", Name: "userId"}},
		"a hyphen":                      {`{"user-id":"a"}`, strictjson.Error{Problem: strictjson.Misspelled, Member: "user_id", Name: "user-id"}},
		"a letter that folds to s":      {`{"topicſ":[]}`, strictjson.Error{Problem: strictjson.Misspelled, Member: "topics", Name: "topicſ"}},
		"beside the right name":         {`{"user_id":"a","USER_ID":"a"}`, strictjson.Error{Problem: strictjson.Misspelled, Member: "user_id", Name: "USER_ID"}},
		"deep nesting":                  {`{"x":` + strings.Repeat("[", 100_000), strictjson.Error{Problem: strictjson.NotJSON}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openSchema().Read([]byte(test.text))
			if got, ok := errors.AsType[*strictjson.Error](err); !ok || *got != test.want {
				t.Errorf("Read: %+v, want %+v", err, test.want)
			}
			closedErr := &strictjson.Error{}
			if _, err := closedSchema().Read([]byte(test.text)); !errors.As(err, &closedErr) {
				t.Errorf("Read of a closed schema: %v", err)
			}
		})
	}
}

func TestClosedSchemaRejectsUnknownMembers(t *testing.T) {
	const text = `{"user_id":"a","user":"b"}`
	want := strictjson.Error{Problem: strictjson.Unknown, Name: "user"}
	_, err := closedSchema().Read([]byte(text))
	if got, ok := errors.AsType[*strictjson.Error](err); !ok || *got != want {
		t.Errorf("Read: %v, want %v", err, &want)
	}
	if _, err := openSchema().Read([]byte(text)); err != nil {
		t.Errorf("an open schema: %v", err)
	}
}

func TestDecode(t *testing.T) {
	object, err := openSchema().Read([]byte(` { "x" : {"user_id":[]} , "user\u005fid" : "m\u00fcller 🦊 \ud83e\udd8a \ufffd", "topics":["a","b"] } `))
	if err != nil {
		t.Fatal(err)
	}

	var user string
	var topics []string
	for member, v := range map[string]any{"user_id": &user, "topics": &topics} {
		if err := object.Decode(member, v); err != nil || !object.Has(member) {
			t.Errorf("%s: %v, %t", member, err, object.Has(member))
		}
	}

	if user != "müller 🦊 🦊 \ufffd" || !slices.Equal(topics, []string{"a", "b"}) {
		t.Errorf("decoded %q and %q", user, topics)
	}

	want := strictjson.Error{Problem: strictjson.WrongType, Member: "user_id"}
	wrong := 0
	if got, ok := errors.AsType[*strictjson.Error](object.Decode("user_id", &wrong)); !ok || *got != want {
		t.Errorf("a string into a number: %v", got)
	}
}

func TestDecodeMissingMember(t *testing.T) {
	object, err := openSchema().Read([]byte(`{}`))
	if err != nil || object.Has("user_id") {
		t.Fatalf("Read: %v", err)
	}
	user := "as before"
	if err := object.Decode("user_id", &user); err != nil || user != "as before" {
		t.Errorf("Decode stored %q, %v", user, err)
	}
}

func TestErrorsAreShort(t *testing.T) {
	for name, want := range map[string]string{
		"user":                   `unknown member "user"`,
		"userId":                 `misspelled member "userId"; want "user_id"`,
		strings.Repeat("ü", 500): `unknown member "` + strings.Repeat("ü", 32) + `…"`,
	} {
		if _, err := closedSchema().Read([]byte(`{"` + name + `":1}`)); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := closedSchema().Read([]byte(`{"user_id":"\ud800"}`)); err == nil || err.Error() != `lone surrogate in "user_id"` {
		t.Error(err)
	}
}
