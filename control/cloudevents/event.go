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
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/peald/peald/control/apierror"
)

// contentTypeAttribute is the attribute with the media type of the data.
const contentTypeAttribute = "datacontenttype"

// version is the only specversion that is accepted.
const version = event.CloudEventsVersionV1

var (
	// ErrNoData is returned by [Event.Text] for an event without data.
	ErrNoData = errors.New("the event has no data")

	// ErrBinary is returned by [Event.Text] for data that isn't valid UTF-8.
	ErrBinary = errors.New("the data is not valid UTF-8")
)

// Event is a valid CloudEvent.
type Event struct {
	context event.EventContext
	data    data
}

// data is the data of an event.
type data struct {
	bytes   []byte
	present bool
	isJSON  bool // the media type requires the bytes to be JSON
	encoded bool // in JSON, the bytes are in base64
}

// Type returns the event's type.
func (e *Event) Type() string { return e.context.GetType() }

// Subject returns the event's subject, or "".
func (e *Event) Subject() string { return e.context.GetSubject() }

// DataContentType returns the media type of the event's data, or "".
func (e *Event) DataContentType() string { return e.context.GetDataContentType() }

// Extensions returns the extension attributes whose names start with prefix, in their
// canonical string form.
func (e *Event) Extensions(prefix string) map[string]string {
	found := make(map[string]string)

	for name, value := range e.context.GetExtensions() {
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
	source := e.context.GetSource()

	var in []byte

	in = binary.BigEndian.AppendUint64(in, uint64(len(source)))
	in = append(in, source...)
	in = append(in, e.context.GetID()...)
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
	whole := event.Event{Context: e.context.Clone()}

	for name := range whole.Context.GetExtensions() {
		if strings.HasPrefix(name, omit) {
			_ = whole.Context.SetExtension(name, nil) // which fails only for invalid names
		}
	}

	attributes, err := whole.MarshalJSON()
	if err != nil {
		return "", fmt.Errorf("encoding an event: %w", err)
	}

	member, err := e.data.member()
	if err != nil || member == nil {
		return string(attributes), err
	}

	return string(slices.Concat(bytes.TrimSuffix(attributes, []byte("}")), []byte(","), member, []byte("}"))), nil
}

// member returns the member of the JSON event format for d (section 3.1), or nil. The
// SDK would write JSON with a media type such as application/problem+json as a string.
func (d *data) member() ([]byte, error) {
	switch {
	case !d.present:
		return nil, nil
	case d.encoded || !utf8.Valid(d.bytes):
		return []byte(`"data_base64":"` + base64.StdEncoding.EncodeToString(d.bytes) + `"`), nil
	case d.isJSON:
		return slices.Concat([]byte(`"data":`), d.bytes), nil
	}

	text, err := json.Marshal(string(d.bytes))
	if err != nil {
		return nil, fmt.Errorf("encoding data: %w", err)
	}

	return slices.Concat([]byte(`"data":`), text), nil
}

// builder collects the parts of an event.
type builder struct {
	attributes map[string]any
	data       data
}

// set records an attribute. It returns a problem that completes a sentence starting with
// the attribute's name, or "".
func (b *builder) set(name string, value any) (problem string) {
	switch name {
	case "id", "source", "specversion", "type", "subject", "time", "dataschema", contentTypeAttribute:
		if _, ok := value.(string); !ok {
			return fmt.Sprintf("is %v; want a string", value)
		}
	default:
		if !isName(name) {
			return "is not the name of an attribute; names consist of a to z and 0 to 9, and can't be data"
		}
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
	attributes := event.EventContextV1{}.AsV1()
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

	for _, name := range []string{"specversion", "id", "source", "type"} {
		if value, _ := b.attributes[name].(string); strings.TrimSpace(value) == "" {
			report(name, "is missing")
		}
	}

	if given, ok := b.attributes["specversion"]; ok && given != version {
		report("specversion", fmt.Sprintf("is %.80q; want %q", given, version))
	}

	for _, name := range slices.Sorted(maps.Keys(b.attributes)) {
		if err := spec.V1.SetAttribute(attributes, name, b.attributes[name]); err != nil {
			report(name, fmt.Sprintf("is %.80q; want %s", b.attributes[name], wanted(name)))
		}
	}

	for _, name := range slices.Sorted(maps.Keys(attributes.Validate())) {
		report(name, fmt.Sprintf("is %.80q; want %s", b.attributes[name], wanted(name)))
	}

	if b.data.present && b.data.isJSON && !json.Valid(b.data.bytes) {
		report(dataMember, "is not JSON, but datacontenttype is "+strconv.Quote(b.contentType()))
	}

	if len(invalid) > 0 {
		return Event{}, apierror.Invalid(invalid[:min(len(invalid), apierror.MaxFields)]...)
	}

	return Event{context: attributes, data: b.data}, nil
}

// wanted describes the value that an attribute must have. It completes "want".
func wanted(name string) string {
	switch name {
	case "source":
		return "a URI reference"
	case "dataschema":
		return "an absolute URI"
	case "time":
		return "a time such as 2026-01-31T17:31:00Z"
	case contentTypeAttribute:
		return "a media type"
	default:
		return "a valid " + name
	}
}
