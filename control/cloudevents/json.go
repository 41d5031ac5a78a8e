package cloudevents

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control/apierror"
)

// The members of an event in JSON that aren't attributes.
const (
	dataMember   = "data"
	base64Member = "data_base64"
)

// invalidKind is the kind of text that isn't JSON.
const invalidKind jsontext.Kind = 0

// fromBatch reads an array of up to maxBatch events (JSON event format, section 4).
func fromBatch(body []byte, maxBatch int) ([]Read, error) {
	// The events are checked one by one, so that an invalid one doesn't affect the others.
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

	if kind := dec.PeekKind(); kind != '[' && kind != invalidKind {
		return nil, invalidRequest("the body is a JSON %s; want an array of events", nameOf(kind))
	}

	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON("body", err)
	}

	var events []Read

	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return nil, notJSON("body", err)
		}

		if len(events) == maxBatch {
			return nil, invalidRequest("the batch has more than %d events; want at most %d", maxBatch, maxBatch)
		}

		e, err := fromJSON(value)
		events = append(events, Read{e, err})
	}

	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON("body", err)
	}

	return events, checkEnd("body", dec)
}

// fromJSON reads one event (JSON event format, section 3).
func fromJSON(text []byte) (Event, error) {
	members, err := readMembers(text)
	if err != nil {
		return Event{}, err
	}

	var (
		b       builder
		raw     = make(map[string]jsontext.Value) // data and data_base64
		seen    = make(map[string]bool)
		invalid []apierror.Field
	)

	for _, m := range members {
		problem := ""

		switch {
		case seen[m.name]:
			problem = apierror.MoreThanOnce
		case m.name == dataMember || m.name == base64Member:
			raw[m.name] = m.value
		default:
			problem = b.setJSON(m.name, m.value)
		}

		seen[m.name] = true

		if problem != "" {
			invalid = append(invalid, apierror.Field{Name: apierror.Printable(m.name), Problem: problem})
		}
	}

	var field apierror.Field
	if b.data, field = readData(raw, b.contentType()); field.Problem != "" {
		invalid = append(invalid, field)
	}

	return b.event(invalid)
}

// member is a member of a JSON object.
type member struct {
	name  string
	value jsontext.Value
}

// readMembers reads the members of the object in text, which is an event.
func readMembers(text []byte) ([]member, error) {
	// Names may repeat in the data, which isn't interpreted.
	dec := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true))

	if kind := dec.PeekKind(); kind != '{' && kind != invalidKind {
		return nil, invalidRequest("the event is a JSON %s; want an object", nameOf(kind))
	}

	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON("event", err)
	}

	var members []member

	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, notJSON("event", err)
		}

		m := member{name: name.String()}

		value, err := dec.ReadValue()
		if err != nil {
			return nil, notJSON("event", err)
		}

		m.value = value.Clone()
		members = append(members, m)
	}

	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON("event", err)
	}

	return members, checkEnd("event", dec)
}

// setJSON sets the attribute that a member holds. An attribute that is null is absent.
// Problem completes a sentence that starts with the attribute's name.
func (b *builder) setJSON(name string, value jsontext.Value) (problem string) {
	switch kind := value.Kind(); kind {
	case 'n':
		return ""
	case '"':
		text, err := unquoteJSON(value)
		if err != nil {
			return apierror.NotUTF8
		}

		return b.set(name, text)
	case 't', 'f':
		return b.set(name, kind == 't')
	case '0':
		number, err := strconv.ParseInt(string(value), 10, 32)
		if err != nil {
			return fmt.Sprintf("is %.80s; want a 32-bit whole number, a string, true or false", value)
		}

		return b.set(name, int32(number))
	default:
		return fmt.Sprintf("is a JSON %s; want a string, a 32-bit whole number, true or false", nameOf(kind))
	}
}

// readData returns the data of an event with the given datacontenttype, or the field
// that is invalid. Raw holds the event's data members.
func readData(raw map[string]jsontext.Value, contentType string) (data, apierror.Field) {
	value, encoded := raw[dataMember], raw[base64Member]

	switch {
	case value != nil && encoded != nil:
		return data{}, apierror.Field{Name: base64Member, Problem: "can't be combined with data; set only one of them"}
	case value == nil && encoded == nil:
		return data{}, apierror.Field{}
	case encoded != nil:
		text, err := unquoteJSON(encoded)
		if err != nil {
			return data{}, apierror.Field{Name: base64Member, Problem: "is a JSON " + nameOf(encoded.Kind()) + "; want a string in base64"}
		}

		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return data{}, apierror.Field{Name: base64Member, Problem: "is not valid base64"}
		}

		return data{bytes: decoded, present: true, encoded: true, isJSON: isJSON(contentType)}, apierror.Field{}
	// Data without a media type is JSON (JSON event format, section 3.1.1).
	case contentType == "" || isJSON(contentType):
		return data{bytes: value, present: true, isJSON: true}, apierror.Field{}
	}

	text, err := unquoteJSON(value)
	if err != nil {
		return data{}, apierror.Field{Name: dataMember, Problem: fmt.Sprintf(
			"is a JSON %s, but datacontenttype is %.80q; want a string", nameOf(value.Kind()), contentType)}
	}

	return data{bytes: []byte(text), present: true}, apierror.Field{}
}

// unquoteJSON returns the string that value holds.
func unquoteJSON(value jsontext.Value) (string, error) {
	if value.Kind() != '"' {
		return "", errors.New("not a string")
	}

	text, err := jsontext.AppendUnquote(nil, value)

	return string(text), err
}

// checkEnd returns an error unless dec has reached the end of its input, which is what
// the error calls part.
func checkEnd(part string, dec *jsontext.Decoder) error {
	switch _, err := dec.ReadToken(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return notJSON(part, err)
	}

	return invalidRequest("the %s continues after the end of its JSON (byte %d)", part, dec.InputOffset())
}

// notJSON returns the error for text that the decoder rejects with err. Part is what the
// text is part of.
func notJSON(part string, err error) error {
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)

	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalidRequest("the %s is not JSON: it ends too early", part)
	case !ok || syntax.Err == nil:
		return invalidRequest("the %s is not JSON", part)
	}

	problem := strings.ToValidUTF8(syntax.Err.Error(), "\uFFFD")

	return invalidRequest("the %s is not JSON: %.200s (byte %d)", part, problem, syntax.ByteOffset)
}

func invalidRequest(format string, args ...any) error {
	return apierror.New(codes.InvalidArgument, apierror.ReasonInvalidRequest, fmt.Sprintf(format, args...))
}

// nameOf returns the name of a kind of JSON value.
func nameOf(kind jsontext.Kind) string {
	switch kind {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case '0':
		return "number"
	case 't', 'f':
		return "boolean"
	default:
		return "null"
	}
}
