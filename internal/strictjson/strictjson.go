// Package strictjson reads JSON objects that identify a user or a key. All
// parsers must interpret such objects in the same way.
//
// It accepts only I-JSON (RFC 7493): UTF-8, no lone surrogates, and no duplicate
// members at any depth. Member names are compared byte for byte. A name that only
// resembles an expected one is an error.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Schema describes the objects that Read accepts.
type Schema struct {
	// Members are the names of the members that are read.
	Members []string

	// Closed rejects all other members. Otherwise they are ignored, unless a name
	// differs from one of Members only in case, "_" and "-".
	Closed bool
}

// Object holds the members of a JSON object that are listed in its Schema.
type Object struct {
	members map[string]jsontext.Value
}

// Read parses data as one object. The error is an *Error.
func (s Schema) Read(data []byte) (Object, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	object, err := s.read(dec)
	if err == nil {
		_, err = dec.ReadToken() // nothing may follow the object
		if errors.Is(err, io.EOF) {
			return object, nil
		}
		if err == nil {
			err = &Error{Problem: NotJSON}
		}
	}

	if _, ok := errors.AsType[*Error](err); !ok {
		err = s.explain(data, err)
	}

	return Object{}, err
}

func (s Schema) read(dec *jsontext.Decoder) (Object, error) {
	opening, err := dec.ReadToken()
	if err != nil {
		return Object{}, err
	}
	if opening.Kind() != jsontext.BeginObject.Kind() {
		return Object{}, &Error{Problem: NotObject}
	}

	o := Object{members: make(map[string]jsontext.Value, len(s.Members))}
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return Object{}, err
		}
		if token.Kind() == jsontext.EndObject.Kind() {
			return o, nil
		}

		name := token.String()
		if !slices.Contains(s.Members, name) {
			if err := s.checkOther(name); err != nil {
				return Object{}, err
			}
			if err := dec.SkipValue(); err != nil {
				return Object{}, err
			}
			continue
		}

		value, err := dec.ReadValue()
		if err != nil {
			return Object{}, err
		}

		o.members[name] = value.Clone()
	}
}

// checkOther returns an error if the schema rejects a member that isn't in
// s.Members.
func (s Schema) checkOther(name string) error {
	for _, member := range s.Members {
		if strings.EqualFold(plain(member), plain(name)) {
			return &Error{Problem: Misspelled, Member: member, Name: printable(name)}
		}
	}
	if s.Closed {
		return &Error{Problem: Unknown, Name: printable(name)}
	}
	return nil
}

// plain returns name without "_" and "-".
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' {
			return -1
		}
		return r
	}, name)
}

// explain converts an error from the decoder.
func (s Schema) explain(data []byte, err error) *Error {
	e := &Error{Problem: NotJSON}
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return e
	}
	if path := strings.SplitN(string(syntax.JSONPointer), "/", 3); len(path) > 1 && slices.Contains(s.Members, path[1]) {
		e.Member = path[1]
	}

	switch {
	case !utf8.Valid(data):
		e.Problem = NotUTF8
	case errors.Is(syntax.Err, jsontext.ErrDuplicateName):
		e.Problem, e.Name = Duplicate, printable(syntax.JSONPointer.LastToken())
	case startsWithSurrogate(data[min(max(syntax.ByteOffset, 0), int64(len(data))):]):
		e.Problem = LoneSurrogate
	}

	return e
}

// startsWithSurrogate reports whether data starts with the escape of a
// surrogate, \uD800 to \uDFFF.
func startsWithSurrogate(data []byte) bool {
	return len(data) >= 4 && data[0] == '\\' && data[1] == 'u' && (data[2] == 'd' || data[2] == 'D') && data[3] >= '8'
}

// Has reports whether o has the member.
func (o Object) Has(member string) bool { return o.members[member] != nil }

// Decode stores the value of a member in the variable that v points to. A
// missing member leaves the variable unchanged; a null sets it to its zero
// value. The error is an *Error.
func (o Object) Decode(member string, v any) error {
	value, ok := o.members[member]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(value, v); err != nil {
		return &Error{Problem: WrongType, Member: member}
	}
	return nil
}

// MarshalJSON returns the members of o as an object.
func (o Object) MarshalJSON() ([]byte, error) {
	return json.Marshal(o.members, json.Deterministic(true))
}

// Problem is the reason why an object is rejected.
type Problem string

// The reasons why objects are rejected.
const (
	NotJSON       Problem = "not JSON"
	NotObject     Problem = "not a JSON object"
	NotUTF8       Problem = "not UTF-8"
	LoneSurrogate Problem = "lone surrogate"
	Duplicate     Problem = "duplicate member"
	Misspelled    Problem = "misspelled member"
	Unknown       Problem = "unknown member"
	WrongType     Problem = "wrong type"
)

// Error reports why an object was rejected.
type Error struct {
	Problem Problem

	// Member is the member of the schema that the problem concerns, if known.
	Member string

	// Name is the duplicate, misspelled or unknown name. It is the only part of
	// an Error that comes from the object.
	Name string
}

// Error returns the problem and the names, but no value.
func (e *Error) Error() string {
	switch {
	case e.Problem == Misspelled && e.Name == "":
		return fmt.Sprintf("%s; want %q", e.Problem, e.Member)
	case e.Problem == Misspelled:
		return fmt.Sprintf("%s %q; want %q", e.Problem, e.Name, e.Member)
	case e.Name != "":
		return fmt.Sprintf("%s %q", e.Problem, e.Name)
	case e.Member != "":
		return fmt.Sprintf("%s in %q", e.Problem, e.Member)
	}
	return string(e.Problem)
}

// printable shortens a name for an error message.
func printable(name string) string {
	const limit = 64
	if len(name) > limit {
		name = strings.ToValidUTF8(name[:limit], "") + "…"
	}
	return name
}
