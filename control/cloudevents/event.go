package cloudevents

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/peald/peald/control/apierror"
)

// The attributes that the specification defines (section 3.1).
const (
	idAttribute          = "id"
	sourceAttribute      = "source"
	versionAttribute     = "specversion"
	typeAttribute        = "type"
	subjectAttribute     = "subject"
	timeAttribute        = "time"
	schemaAttribute      = "dataschema"
	contentTypeAttribute = "datacontenttype"
)

// specified returns the attributes that the specification defines, in the order in which
// events are written.
func specified() []string {
	return []string{
		versionAttribute, idAttribute, sourceAttribute, typeAttribute, subjectAttribute, contentTypeAttribute, schemaAttribute, timeAttribute,
	}
}

// version is the only specversion that is accepted.
const version = "1.0"

var (
	// ErrNoData is returned by [Event.Text] for an event without data.
	ErrNoData = errors.New("the event has no data")

	// ErrBinary is returned by [Event.Text] for data that isn't valid UTF-8.
	ErrBinary = errors.New("the data is not valid UTF-8")
)

// Event is a valid CloudEvent.
type Event struct {
	attributes map[string]string // those that the specification defines
	extensions map[string]any    // string, bool or int32
	data       data
}

// data is the data of an event.
type data struct {
	bytes   []byte
	present bool
	isJSON  bool // the media type requires the bytes to be JSON
	encoded bool // in JSON, the bytes are in base64
}

// Type returns the event's type.
func (e *Event) Type() string { return e.attributes[typeAttribute] }

// Subject returns the event's subject, or "".
func (e *Event) Subject() string { return e.attributes[subjectAttribute] }

// DataContentType returns the media type of the event's data, or "".
func (e *Event) DataContentType() string { return e.attributes[contentTypeAttribute] }

// Extensions returns the extension attributes whose names start with prefix, in their
// canonical string form.
func (e *Event) Extensions(prefix string) map[string]string {
	found := make(map[string]string)

	for name, value := range e.extensions {
		// The values have been validated, so they have a canonical form.
		if text, err := types.Format(value); err == nil && strings.HasPrefix(name, prefix) {
			found[name] = text
		}
	}

	return found
}

// Key returns a key that is the same for all events with the same source and id, which
// by the specification are the same event. It has 55 ASCII characters.
func (e *Event) Key() string {
	source := e.attributes[sourceAttribute]

	var in []byte

	in = binary.BigEndian.AppendUint64(in, uint64(len(source)))
	in = append(in, source...)
	in = append(in, e.attributes[idAttribute]...)
	sum := sha256.Sum256(in)

	return "cloudevents:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Text returns the data as text, unchanged. Its error is [ErrNoData] or [ErrBinary].
func (e *Event) Text() (string, error) {
	switch {
	case !e.data.present:
		return "", ErrNoData
	case !utf8.Valid(e.data.bytes):
		return "", ErrBinary
	}

	return string(e.data.bytes), nil
}

// JSON returns the whole event in the JSON event format, without the extension
// attributes whose names start with omit.
func (e *Event) JSON(omit string) (string, error) {
	var (
		text bytes.Buffer
		errs []error
	)

	enc := jsontext.NewEncoder(&text)
	write := func(token jsontext.Token) { errs = append(errs, enc.WriteToken(token)) }

	write(jsontext.BeginObject)

	for _, name := range specified() {
		if value, ok := e.attributes[name]; ok {
			write(jsontext.String(name))
			write(jsontext.String(value))
		}
	}

	for _, name := range slices.Sorted(maps.Keys(e.extensions)) {
		if !strings.HasPrefix(name, omit) {
			write(jsontext.String(name))
			write(token(e.extensions[name]))
		}
	}

	write(jsontext.EndObject)

	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("encoding an event: %w", err)
	}

	// The encoder would reformat the data, which must remain as it is.
	attributes := strings.TrimSuffix(text.String(), "\n")
	if name, value := e.data.member(); name != "" {
		return fmt.Sprintf(`%s,"%s":%s}`, strings.TrimSuffix(attributes, "}"), name, value), nil
	}

	return attributes, nil
}

// token returns the value of an extension attribute as JSON.
func token(value any) jsontext.Token {
	switch value := value.(type) {
	case bool:
		return jsontext.Bool(value)
	case int32:
		return jsontext.Int(int64(value))
	default:
		text, _ := value.(string)
		return jsontext.String(text)
	}
}

// member returns the member of the JSON event format for d (section 3.1). The name of
// no data is empty.
func (d *data) member() (name string, value []byte) {
	switch {
	case !d.present:
		return "", nil
	case d.encoded || !utf8.Valid(d.bytes):
		return base64Member, []byte(`"` + base64.StdEncoding.EncodeToString(d.bytes) + `"`)
	case d.isJSON:
		return dataMember, d.bytes
	}

	text, _ := jsontext.AppendQuote(nil, d.bytes) // which fails only for invalid UTF-8

	return dataMember, text
}

// builder collects the parts of an event.
type builder struct {
	attributes map[string]any
	data       data
}

// set records an attribute. It returns a problem that completes a sentence starting with
// the attribute's name, or "".
func (b *builder) set(name string, value any) (problem string) {
	if slices.Contains(specified(), name) {
		if _, ok := value.(string); !ok {
			return fmt.Sprintf("is %v; want a string", value)
		}
	} else if !isName(name) {
		return "is not the name of an attribute; names consist of a to z and 0 to 9, and can't be data"
	}

	if b.attributes == nil {
		b.attributes = make(map[string]any)
	}

	b.attributes[name] = value

	return ""
}

// isName reports whether name is valid for an attribute (CloudEvents, section 3.1).
func isName(name string) bool {
	return name != "" && name != dataMember && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// contentType returns the attribute datacontenttype, or "".
func (b *builder) contentType() string {
	value, _ := b.attributes[contentTypeAttribute].(string)
	return value
}

// event returns the event. Invalid holds what has been found to be invalid so far.
func (b *builder) event(invalid []apierror.Field) (Event, error) {
	found := make(map[string]bool)

	report := func(name, problem string) {
		if !found[name] {
			found[name] = true
			invalid = append(invalid, apierror.Field{Name: apierror.Printable(name), Problem: problem})
		}
	}

	for _, f := range invalid {
		found[f.Name] = true
	}

	for _, name := range []string{versionAttribute, idAttribute, sourceAttribute, typeAttribute} {
		if value, _ := b.attributes[name].(string); strings.TrimSpace(value) == "" {
			report(name, "is missing")
		}
	}

	if given, ok := b.attributes[versionAttribute]; ok && given != version {
		report(versionAttribute, fmt.Sprintf("is %.80q; want %q", given, version))
	}

	e := Event{attributes: make(map[string]string), extensions: make(map[string]any), data: b.data}

	for _, name := range slices.Sorted(maps.Keys(b.attributes)) {
		if !e.set(name, b.attributes[name]) {
			report(name, fmt.Sprintf("is %.80q; want %s", b.attributes[name], wanted(name)))
		}
	}

	if b.data.present && b.data.isJSON && !json.Valid(b.data.bytes) {
		report(dataMember, "is not JSON, but datacontenttype is "+strconv.Quote(b.contentType()))
	}

	if len(invalid) > 0 {
		return Event{}, apierror.Invalid(invalid[:min(len(invalid), apierror.MaxFields)]...)
	}

	return e, nil
}

// set sets an attribute to a value in its canonical form. It returns false if the value
// is invalid. Those of the attributes that the specification defines are strings.
func (e *Event) set(name string, value any) bool {
	text, _ := value.(string)

	switch name {
	case sourceAttribute:
		source := types.ParseURIRef(text)
		text = source.String()
	case schemaAttribute:
		schema := types.ParseURI(text)
		if schema == nil || !schema.Validate() {
			return false
		}

		text = schema.String()
	case timeAttribute:
		at, err := types.ParseTime(text)
		if err != nil {
			return false
		}

		text = types.FormatTime(at)
	case contentTypeAttribute:
		if _, _, err := mime.ParseMediaType(text); err != nil {
			return false
		}
	case idAttribute, typeAttribute, subjectAttribute, versionAttribute:
	default:
		value, err := types.Validate(value)
		e.extensions[name] = value

		return err == nil
	}

	e.attributes[name] = text

	return strings.TrimSpace(text) != ""
}

// wanted describes the value that an attribute must have. It completes "want".
func wanted(name string) string {
	switch name {
	case sourceAttribute:
		return "a URI reference"
	case schemaAttribute:
		return "an absolute URI"
	case timeAttribute:
		return "a time such as 2026-01-31T17:31:00Z"
	case contentTypeAttribute:
		return "a media type"
	default:
		return "a valid " + name
	}
}
